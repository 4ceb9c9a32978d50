# shellcheck shell=bash
# What the scripts in this folder share: messages, Debian packages, configuring and building.
# Sourced, never run; expects `set -euo pipefail` in the caller.

# Where ccache is installed, meson uses it; precompiled headers it keeps only if told these may be.
export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
quiet=0

# Everything that building, testing and drawing the figures need. meson brings python3, which the
# test scripts use. Optional and used where present: ccache, chromium.
packages=(
  g++ meson ninja-build pkg-config
  libxtensor-dev libxtensor-blas-dev libxsimd-dev libopenblas-openmp-dev
  libfmt-dev nlohmann-json3-dev libcli11-dev libutf8proc-dev libsentencepiece-dev catch2 libbenchmark-dev
  gnuplot-nox git ca-certificates
)

say() { [[ $quiet -eq 1 ]] || printf '%s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }
# die STATUS MESSAGE
die() {
  complain "${0##*/}: $2"
  exit "$1"
}

is_installed() {
  dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -x installed >/dev/null
}

# Installs the packages that are missing, and says which. Exits 2 if it may not.
install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "Not a Debian system: nothing is installed. The build needs what Debian 12 calls"
    say "  ${packages[*]}"
    say "and fetches most of the libraries itself where they are missing (subprojects/)."
    return
  fi
  local missing=() package
  for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
  if [[ ${#missing[@]} -eq 0 ]]; then
    say "All packages that are needed are installed."
    return
  fi
  local as_root=()
  if [[ $EUID -ne 0 ]]; then
    # Without a terminal nobody can type a password.
    if command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
      as_root=(sudo)
    else
      complain "${0##*/}: packages are missing and only root can install them. Run as root"
      complain "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
      complain "and start this again."
      exit 2
    fi
  fi
  say "Installing with apt-get: ${missing[*]}"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
    apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  run "${apt[@]}" update || complain "apt-get update failed; trying with the package lists at hand"
  run "${apt[@]}" install -y --no-install-recommends "${missing[@]}" ||
    die 1 "apt-get could not install: ${missing[*]}"
}

require_tools() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null ||
      die 2 "$tool is missing; leave out --no-install, or install Debian's: ${packages[*]}"
  done
}

# As many compilers as there are cores and 1.5 GiB of free memory for each.
compile_jobs() {
  local jobs memory
  jobs=$(nproc)
  memory=$(awk '/^MemAvailable:/ { print int($2 / 1572864) }' /proc/meminfo 2>/dev/null || true)
  if [[ -n $memory && $memory -lt $jobs ]]; then jobs=$memory; fi
  echo $((jobs > 0 ? jobs : 1))
}

# What both scripts build in build/. Eight files at a time take two thirds of the time of one by one:
# most of the code is the standard library's and xtensor's, which they share.
release_options=(--buildtype=release -Dunity=on -Dunity_size=8)

# run COMMAND…: with --quiet its output is kept back and shown only if it fails.
run() {
  if [[ $quiet -eq 0 ]]; then
    "$@"
    return
  fi
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  [[ $status -eq 0 ]] || cat "$log"
  rm -f "$log"
  return "$status"
}

# configure DIR OPTION…: sets up a build folder, or the one there once more; one that is broken is
# set up anew.
configure() {
  local dir=$1
  shift
  if [[ -f $dir/meson-private/coredata.dat ]]; then
    if run meson setup --reconfigure "$dir" "$root" "$@"; then return; fi
    say "$dir could not be reconfigured; setting it up anew"
    if run meson setup --wipe "$dir" "$root" "$@"; then return; fi
  fi
  rm -rf "$dir"/{meson-private,meson-info,meson-logs,build.ninja,.ninja_deps,.ninja_log}
  run meson setup "$dir" "$root" "$@"
}

# seconds_since START, START being a value of $SECONDS.
seconds_since() { printf '%d min %02d s' $(((SECONDS - $1) / 60)) $(((SECONDS - $1) % 60)); }
