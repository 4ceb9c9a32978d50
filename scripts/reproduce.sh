#!/usr/bin/env bash
# Installs what is missing, builds, and reproduces the paper: every experiment, with its figures,
# the table of claims and report.html.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=lib.sh
source scripts/lib.sh

usage() {
  cat <<'EOF'
usage: scripts/reproduce.sh [--preset smoke|quick|paper] [--out DIR] [--data DIR] [--no-install]
                            [--quiet] [-- OPTION…]

Installs the Debian packages that are missing (as root or with sudo), builds release in build/ and
runs `parsimony run all`. Needs no network once the packages are there, and no data: experiments on
real ratings are marked "not run" without them (scripts/get_data.sh fetches MovieLens 100K).

  --preset NAME  smoke (seconds), quick (minutes, the default) or paper (the paper's sizes, hours)
  --out DIR      where the results go (default: results/)
  --data DIR     where the data sets are (default: $PARSIMONY_DATA, then ./data)
  --no-install   never call apt-get
  --quiet        no output of the build, no progress
  -- OPTION…     handed to `parsimony run`, for example --threads 4 or --resume
  --help         this text

Exit status: that of `parsimony run`; 2 for wrong usage or missing packages.
EOF
}

install=1
preset=quick
out=results
options=()
# A relative folder is relative to where the script was called, not to the checkout.
absolute() { if [[ $1 == /* ]]; then echo "$1"; else echo "$start_dir/$1"; fi; }
value() { if [[ $# -lt 2 || -z $2 ]]; then die 2 "$1 needs a value; see --help"; fi; }
while [[ $# -gt 0 ]]; do
  case $1 in
    --preset) value "$@" && preset=$2 && shift ;;
    --preset=*) preset=${1#*=} ;;
    --out) value "$@" && out=$(absolute "$2") && shift ;;
    --out=*) out=$(absolute "${1#*=}") ;;
    --data) value "$@" && options+=(--data "$(absolute "$2")") && shift ;;
    --data=*) options+=(--data "$(absolute "${1#*=}")") ;;
    --no-install) install=0 ;;
    --quiet) quiet=1 && options+=(--quiet) ;;
    --help | -h) usage && exit 0 ;;
    --) shift && options+=("$@") && break ;;
    *) die 2 "unknown argument '$1'; see --help" ;;
  esac
  shift
done
case $preset in
  smoke | quick | paper) ;;
  *) die 2 "unknown preset '$preset'; expected smoke, quick or paper" ;;
esac

if [[ $install -eq 1 ]]; then install_packages; fi
require_tools meson ninja pkg-config "${CXX:-g++}"

start=$SECONDS
say "== Building in build/"
configure build "${release_options[@]}"
run meson compile -C build -j "$(compile_jobs)" parsimony:executable
say "Built in $(seconds_since "$start")."

start=$SECONDS
say "== Running every experiment, preset $preset"
status=0
build/parsimony run all --preset "$preset" --out "$out" "${options[@]}" || status=$?
say "Ran in $(seconds_since "$start")."
report=$out/report.html
if [[ -f $report ]]; then
  echo "Report: $(cd "$(dirname "$report")" && pwd)/report.html"
else
  complain "No report was written to $report."
  if [[ $status -eq 0 ]]; then status=1; fi
fi
exit "$status"
