#!/usr/bin/env bash
# Builds the fuzz targets with clang and the sanitizers, and runs each for a while.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=lib.sh
source scripts/lib.sh

usage() {
  cat <<'EOF'
usage: scripts/fuzz.sh [--seconds N] [--no-install] [--quiet] [TARGET...]

Installs the Debian packages that are missing, clang among them, builds the libFuzzer programs in
build-fuzz/ with the address and undefined-behaviour sanitizers, and runs each TARGET (default: all
of tests/fuzz/) for N seconds (60). New inputs are kept in build-fuzz/corpus/TARGET/ for the next
time. An input that fails is left in build-fuzz/failures/: fix it, and add it to
tests/fuzz/seeds/TARGET/, which the unit tests run.

Exit status: 0 nothing found, 1 an input failed, 2 wrong usage or packages missing.
EOF
}

install=1
seconds=60
targets=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --seconds)
      [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die 2 "--seconds: expected a positive number; got '${2:-}'"
      seconds=$2
      shift
      ;;
    --no-install) install=0 ;;
    --quiet) quiet=1 ;;
    --help | -h) usage && exit 0 ;;
    -*) die 2 "unknown argument '$1'; see --help" ;;
    *) targets+=("$1") ;;
  esac
  shift
done

known=()
for file in tests/fuzz/fuzz_*.cpp; do
  name=${file##*/fuzz_}
  known+=("${name%.cpp}")
done
[[ ${#targets[@]} -gt 0 ]] || targets=("${known[@]}")
for target in "${targets[@]}"; do
  [[ -f tests/fuzz/fuzz_$target.cpp ]] || die 2 "no target '$target'; there are: ${known[*]}"
done

packages+=(clang libomp-dev)
if [[ $install -eq 1 ]]; then install_packages; fi
require_tools meson ninja pkg-config clang++

say "== Building in build-fuzz/: ${targets[*]}"
export CXX=clang++
configure build-fuzz --buildtype=debugoptimized -Dfuzz=true -Dbenchmarks=false \
  -Db_sanitize=address,undefined -Db_lundef=false
run ninja -C build-fuzz -j "$(compile_jobs)" "${targets[@]/#/tests/fuzz/fuzz_}"

export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}
mkdir -p build-fuzz/failures
failed=0
for target in "${targets[@]}"; do
  say "== $target, $seconds s"
  mkdir -p "build-fuzz/corpus/$target"
  if ! run "build-fuzz/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=10 \
    -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="build-fuzz/failures/$target-" \
    "build-fuzz/corpus/$target" "tests/fuzz/seeds/$target"; then
    complain "$target: an input failed; it is in build-fuzz/failures/"
    failed=$((failed + 1))
  fi
done
printf '%d targets, %d failed\n' "${#targets[@]}" "$failed"
[[ $failed -eq 0 ]]
