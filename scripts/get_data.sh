#!/usr/bin/env bash
# Fetches MovieLens 100K, the ratings of the paper's matrix completion experiment.
set -euo pipefail
start_dir=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=lib.sh
source scripts/lib.sh

url=https://files.grouplens.org/datasets/movielens/ml-100k.zip

usage() {
  cat <<EOF
usage: scripts/get_data.sh [--out DIR] [--zip FILE]

Downloads MovieLens 100K (5 MB) from GroupLens,
  $url
into DIR/movielens-100k and checks the ratings against their known sha256. Does nothing if they are
there already.

  --out DIR   the data folder (default: ./data, where parsimony looks by itself)
  --zip FILE  use an ml-100k.zip that you have, and no network
  --help      this text

The text tasks (STS-B, SST-2, CoLA, RTE, MRPC, QNLI, SICK) are not fetched: their licences and hosts
differ. docs/text_data.md lists publishers, file names and row counts; put the files in DIR.

Licence: GroupLens permits research use, asks to be acknowledged (Harper & Konstan 2015,
doi:10.1145/2827872), and forbids commercial use and redistribution without permission; the README
that comes with the data has the terms. This project does not ship it, and neither may you.

Exit status: 0 the data is there, 1 it could not be fetched or is not what it should be, 2 usage.
EOF
}

out=data
zip=
while [[ $# -gt 0 ]]; do
  case $1 in
    --out | --zip)
      if [[ $# -lt 2 || -z $2 ]]; then die 2 "$1 needs a value; see --help"; fi
      path=$2
      if [[ $path != /* ]]; then path=$start_dir/$path; fi
      if [[ $1 == --out ]]; then out=$path; else zip=$path; fi
      shift
      ;;
    --help | -h) usage && exit 0 ;;
    *) die 2 "unknown argument '$1'; see --help" ;;
  esac
  shift
done
require_tools python3 sha256sum

sha256=06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490
target=$out/movielens-100k

# The ratings are the published ones, and the official test fold is 20,000 of them.
is_sound() {
  sha256sum --check --status <<<"$sha256  $1/u.data" 2>/dev/null &&
    [[ $(sort -u "$1/u.data" "$1/u1.test" 2>/dev/null | wc -l) -eq 100000 ]] &&
    [[ $(wc -l <"$1/u1.test") -eq 20000 ]]
}

if is_sound "$target"; then
  echo "MovieLens 100K is in $target already."
  exit 0
fi

mkdir -p "$out" || die 1 "cannot write to $out"
work=$(mktemp -d "$out/.movielens-XXXXXX")
trap 'rm -rf "$work"' EXIT

if [[ -z $zip ]]; then
  zip=$work/ml-100k.zip
  echo "Downloading $url"
  if command -v curl >/dev/null; then
    fetch=(curl --fail --location --silent --show-error --connect-timeout 20 --max-time 600
      --output "$zip" "$url")
  elif command -v wget >/dev/null; then
    fetch=(wget --quiet --timeout=20 --tries=2 --output-document="$zip" "$url")
  else
    die 1 "needs curl or wget; or download $url elsewhere and pass it with --zip"
  fi
  "${fetch[@]}" ||
    die 1 "could not download it. Offline? Download $url elsewhere and pass it with --zip FILE"
fi
[[ -f $zip ]] || die 1 "$zip: no such file"

# Titles are Latin-1 in the archive and UTF-8 here. unzip is not on every system, python3 is.
python3 - "$zip" "$work/movielens-100k" <<'EOF' || die 1 "$zip is not GroupLens' ml-100k.zip"
import pathlib, sys, zipfile
target = pathlib.Path(sys.argv[2])
target.mkdir()
try:
    with zipfile.ZipFile(sys.argv[1]) as archive:
        for name in ("README", "u.data", "u1.base", "u1.test", "u.item", "u.user", "u.genre"):
            content = archive.read("ml-100k/" + name)
            if name == "u.item":
                content = content.decode("latin-1").encode("utf-8")
            (target / name).write_bytes(content)
except (OSError, KeyError, zipfile.BadZipFile) as error:
    sys.exit(str(error))
EOF
is_sound "$work/movielens-100k" ||
  die 1 "the ratings in it are not the published ones; nothing was kept"

mkdir -p "$target"
mv "$work"/movielens-100k/* "$target"/
echo "MovieLens 100K is in $target. Research use only, not to be passed on: see $target/README"
