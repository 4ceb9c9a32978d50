#!/usr/bin/env bash
# Installs what is missing, builds, runs every test. The last line is "N passed, N failed".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=lib.sh
source scripts/lib.sh

usage() {
  cat <<'EOF'
usage: scripts/test.sh [--no-install] [--no-sanitize] [--quiet]

Installs the Debian packages that are missing (as root or with sudo), builds release in build/,
runs all tests, then runs those of the library once more in build-sanitize/ with the address and
undefined-behaviour sanitizers. Safe to run again; only what changed is rebuilt.

  --no-install   never call apt-get
  --no-sanitize  leave out the build with sanitizers
  --quiet        print failures and the counts only
  --help         this text

Tests on real data look for it in $PARSIMONY_DATA, then in ./data.
Exit status: 0 all passed, 1 something failed, 2 wrong usage or packages missing.
EOF
}

# What runs under the sanitizers too: the tests that call the library in their own process.
sanitized_tests=(unit models grad)

install=1
sanitize=1
while [[ $# -gt 0 ]]; do
  case $1 in
    --no-install) install=0 ;;
    --no-sanitize) sanitize=0 ;;
    --quiet) quiet=1 ;;
    --help | -h) usage && exit 0 ;;
    *) die 2 "unknown argument '$1'; see --help" ;;
  esac
  shift
done

# Whatever happens from here on, the last line gives the counts; stopping early is a failure.
passed=0
failed=0
finished=0
finish() {
  local status=$?
  trap - EXIT
  if [[ $finished -eq 0 && $failed -eq 0 ]]; then failed=1; fi
  if [[ $status -eq 0 && $failed -gt 0 ]]; then status=1; fi
  printf '%d passed, %d failed\n' "$passed" "$failed"
  exit "$status"
}
trap finish EXIT

# run_tests DIR ARGUMENT…: runs meson's tests there and adds to the counts.
run_tests() {
  local dir=$1 log=$1/meson-logs/testlog.json counts p f
  shift
  rm -f "$log"
  run meson test -C "$dir" --no-rebuild --print-errorlogs "$@" || true
  counts=$(python3 scripts/testlog.py count "$log")
  read -r p f <<<"$counts"
  passed=$((passed + p))
  failed=$((failed + f))
}

if [[ $install -eq 1 ]]; then install_packages; fi
require_tools meson ninja pkg-config python3 "${CXX:-g++}"
jobs=$(compile_jobs)

start=$SECONDS
say "== Building in build/"
configure build "${release_options[@]}" -Dtests=true
run meson compile -C build -j "$jobs"
if [[ $sanitize -eq 1 ]]; then
  say "== Building tests with sanitizers in build-sanitize/: ${sanitized_tests[*]}"
  # Without optimisation: g++ takes four times as long to compile this at -O1, which the tests would
  # not win back. Three checks cost a third of the time to compile: of null and of objects' ends,
  # which the address sanitizer sees too, and of alignment. scripts/fuzz.sh has them all.
  configure build-sanitize --buildtype=debug -Db_sanitize=address,undefined -Db_lundef=false \
    -Dunity=on -Dunity_size=8 \
    "-Dcpp_args=-g1 -fno-sanitize=null -fno-sanitize=object-size -fno-sanitize=alignment" \
    -Dtests=true -Dbenchmarks=false
  targets=$(python3 scripts/testlog.py targets build-sanitize "${sanitized_tests[@]}")
  mapfile -t targets <<<"$targets"
  run ninja -C build-sanitize -j "$jobs" "${targets[@]}"
fi
say "Built in $(seconds_since "$start")."

start=$SECONDS
# Tests share the cores; a thread that waits must not spin on one.
export OMP_WAIT_POLICY=passive
say "== Tests"
run_tests build
if [[ $sanitize -eq 1 ]]; then
  say "== Tests under the address and undefined-behaviour sanitizers"
  export ASAN_OPTIONS=${ASAN_OPTIONS:-strict_string_checks=1:check_initialization_order=1}
  export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}
  # One thread a test, but where a test asks for more: two programs run side by side, and what the
  # sanitizers add to waiting threads takes longer than the work.
  export OMP_NUM_THREADS=1
  run_tests build-sanitize --timeout-multiplier 5 "${sanitized_tests[@]}"
fi
say "Tested in $(seconds_since "$start")."
finished=1
