"""Measure `parsimony bench` and PyTorch alternately, so that their ratio holds on a noisy machine.

Each round runs, for one group of cases after another, our benchmark and then
PyTorch's with each thread count.  A slow spell of the machine therefore hits
both sides.  Over the rounds each case keeps its minimum (or median), PyTorch
the better of its thread counts; compare.py judges the result.  The folder given
by --out receives the merged files ours.json and pytorch.json.

Leave the machine otherwise idle: where another process keeps a core busy, OpenMP
threads wait for each other and times with 2 threads grow up to twentyfold.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import compare

HERE = os.path.dirname(os.path.abspath(__file__))
GROUPS = ("dmf_step/full", "dmf_step/compressed", "completion_step", "gemm")
THREAD_COUNTS = (1, 2)
STATISTICS = {"min": min, "median": statistics.median}


def times_of(command):
    """{name: microseconds} that the command writes to the file given by its --json."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "times.json")
        subprocess.run([*command, "--json", path], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return {name: time for name, (time, _) in compare.read_times(path).items()}


def our_command(parsimony, group):
    return [parsimony, "bench", group]


def peer_command(group, threads):
    return [sys.executable, os.path.join(HERE, "matrix_peers.py"),
            "--filter", f"^{group}", "--threads", str(threads)]


def measure(args):
    """Two lists of samples per name: ours[name], peer[name][threads]."""
    ours, peer = {}, {}
    for round_number in range(1, args.rounds + 1):
        for group in args.groups:
            print(f"round {round_number}/{args.rounds}: {group}", file=sys.stderr, flush=True)
            for name, time in times_of(our_command(args.parsimony, group)).items():
                ours.setdefault(name, []).append(time)
            for threads in THREAD_COUNTS:
                for name, time in times_of(peer_command(group, threads)).items():
                    peer.setdefault(name, {}).setdefault(threads, []).append(time)
    return ours, peer


def write_times(folder, file_name, times):
    with open(os.path.join(folder, file_name), "w") as file:
        json.dump({"benchmarks": [
            {"name": name, "real_time": time, "time_unit": "us", "threads": threads}
            for name, (time, threads) in times.items()]}, file, indent=2)
        file.write("\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 every bound holds, 1 one fails or a benchmark failed, 2 usage.")
    parser.add_argument("--parsimony", default="build/parsimony", metavar="PROGRAM",
                        help="our program (build/parsimony)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    parser.add_argument("--statistic", choices=STATISTICS, default="min",
                        help="what a case keeps over the rounds (min)")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP",
                        help="only these of " + ", ".join(GROUPS))
    parser.add_argument("--out", metavar="DIR", help="write ours.json and pytorch.json there")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not os.access(args.parsimony, os.X_OK):
        parser.error(f"--parsimony: {args.parsimony} is not a program; build it first")

    try:
        our_samples, peer_samples = measure(args)
    except subprocess.CalledProcessError as error:
        print(f"run_pairs: {' '.join(error.cmd)} exited with {error.returncode}\n{error.stderr}",
              file=sys.stderr)
        return 1
    statistic = STATISTICS[args.statistic]
    ours = {name: (statistic(samples), None) for name, samples in our_samples.items()}
    peer = {name: min((statistic(samples), threads) for threads, samples in by_threads.items())
            for name, by_threads in peer_samples.items()}
    if args.out:
        os.makedirs(args.out, exist_ok=True)
        write_times(args.out, "ours.json", ours)
        write_times(args.out, "pytorch.json", peer)
    pattern = "^(" + "|".join(args.groups) + ")"
    return compare.report(compare.compare(ours, peer, pattern), args.json)


if __name__ == "__main__":
    sys.exit(main())
