#!/usr/bin/env bash
# What a user of the installed library relies on: every public header compiles alone, and a program
# of two translation units builds with `pkg-config --cflags --libs parsimony`, links and runs.
#
#   install_test.sh BUILD_DIR
#
# BUILD_DIR is built already; it is installed into a temporary folder. $CXX names the compiler.
# shellcheck disable=SC2317  # the functions are called by name, through check
set -euo pipefail

if [[ $# -ne 1 || ! -f $1/build.ninja ]]; then
  echo "usage: install_test.sh BUILD_DIR" >&2
  exit 2
fi
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cxx=${CXX:-g++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# check NAME COMMAND…: one test; what it prints is shown if it fails.
check() {
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "failed: $name"
    cat "$work/log"
  fi
}

finish() {
  echo "$passed passed, $failed failed"
  [[ $failed -eq 0 ]] || exit 1
  exit 0
}

check "meson install" meson install -C "$build" --destdir "$work/stage" --no-rebuild --quiet
pc=$(find "$work/stage" -name parsimony.pc)
[[ $failed -eq 0 && -n $pc ]] || {
  echo "failed: no parsimony.pc was installed"
  failed=$((failed + 1))
  finish
}

# The prefix in the file is where the library would be after a real installation.
prefix=$(sed -n 's/^prefix=//p' "$pc")
mkdir "$work/pkgconfig"
sed "s|^prefix=.*|prefix=$work/stage$prefix|" "$pc" >"$work/pkgconfig/parsimony.pc"
export PKG_CONFIG_PATH=$work/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
read -ra cflags <<<"$(pkg-config --cflags parsimony)"
read -ra libs <<<"$(pkg-config --libs parsimony)"
libdir=$(pkg-config --variable=libdir parsimony)
include=$(pkg-config --variable=includedir parsimony)
warnings=(-std=c++17 -Wall -Wextra -Werror)

all_installed() {
  local missing
  missing=$(comm -23 <(cd "$here/../../include" && find parsimony -name '*.hpp' | sort) \
    <(cd "$include" && find parsimony -name '*.hpp' | sort))
  [[ -z $missing ]] || { echo "not installed: $missing" && return 1; }
}
check "every public header is installed" all_installed

# Twice, for a guard that is missing.
compile_alone() {
  printf '#include <%s>\n#include <%s>\n' "$1" "$1" >"$2"
  "$cxx" "${warnings[@]}" "${cflags[@]}" -fsyntax-only "$2"
}
mapfile -t headers < <(cd "$include" && find parsimony -name '*.hpp' | sort)
for header in "${headers[@]}"; do
  check "<$header> compiles alone" compile_alone "$header" "$work/alone.cpp"
done

for unit in main other; do
  check "consumer/$unit.cpp compiles" "$cxx" "${warnings[@]}" "${cflags[@]}" -O1 \
    -c "$here/consumer/$unit.cpp" -o "$work/$unit.o"
done
objects=("$work/main.o" "$work/other.o")
if compgen -G "$libdir/libparsimony.so*" >/dev/null; then
  check "consumer links" "$cxx" "${objects[@]}" "${libs[@]}" -o "$work/consumer"
  check "consumer runs" env LD_LIBRARY_PATH="$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
    "$work/consumer"
fi
if [[ -f $libdir/libparsimony.a ]]; then
  read -ra libs <<<"$(pkg-config --static --libs parsimony)"
  libs=("${libs[@]/#-lparsimony/$libdir/libparsimony.a}")
  check "consumer links statically" "$cxx" "${objects[@]}" "${libs[@]}" -o "$work/consumer-static"
  check "static consumer runs" "$work/consumer-static"
fi
finish
