"""Measure `parsimony bench` and PyTorch alternately, so that their ratio holds on a noisy machine.

Each round runs, for one group of cases after another, our benchmark and then
PyTorch's: matrix cases with each thread count, BERT's with 2 threads on both
sides, each in a process of its own whose peak memory is noted.  A time is the
median of several blocks of steps, as many on both sides.  A slow spell of the
machine hits both sides.  Over the rounds each case keeps its minimum (or
median), PyTorch the better of its thread counts; compare.py judges the result.
The folder given by --out receives the merged files ours.json and pytorch.json.

Leave the machine otherwise idle: where another process keeps a core busy, OpenMP
threads wait for each other and times with 2 threads grow up to twentyfold.
Where that cannot be had, --cpu-time compares the CPU time of one thread.

OPENBLAS_CORETYPE reaches both sides.  OpenBLAS does not know every new CPU and
then runs its oldest kernels ("Prescott", a fifth of the speed; the core that
PyTorch's BLAS runs is printed); SkylakeX is the type for one with AVX-512.
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
SIZES = ("tiny", "mini", "small", "base")
BERT_GROUPS = (*(f"bert_step/{method}/{size}" for method in ("lora", "deep-lora", "full")
                 for size in SIZES), *(f"bert_forward/{size}" for size in SIZES))
GROUPS = ("dmf_step/full", "dmf_step/compressed", "completion_step", "gemm", *BERT_GROUPS)
STATISTICS = {"min": min, "median": statistics.median}


def run(command):
    """The process's peak resident memory in MB."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command,
                                                stderr=errors.read().decode(errors="replace"))
    return usage.ru_maxrss / 1024


def times_of(command, field):
    """{name: microseconds} that the command writes to the file given by its --json; peak MB."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "times.json")
        memory = run([*command, "--json", path])
        return {name: time for name, (time, _) in compare.read_times(path, field).items()}, memory


def block_options(group, count_option):
    """Both sides take the median of as many blocks of as long; BERT's steps are long."""
    blocks, seconds = ("3", "0.05") if group in BERT_GROUPS else ("7", "0.1")
    return [count_option, blocks, "--min-time", seconds]


def our_command(parsimony, group, threads):
    return [parsimony, "bench", f"^{group}", "--threads", str(threads),
            *block_options(group, "--repetitions")]


def peer_command(group, threads):
    script = "bert_peers.py" if group in BERT_GROUPS else "matrix_peers.py"
    return [sys.executable, os.path.join(HERE, script), "--filter", f"^{group}",
            "--threads", str(threads), *block_options(group, "--blocks")]


def measure(args):
    """Samples per name, ours[name] and peer[name][threads]; (ours, peer) peaks in MB of BERT's."""
    ours, peer, peaks = {}, {}, {}
    field = "cpu_time" if args.cpu_time else "real_time"
    for round_number in range(1, args.rounds + 1):
        for group in args.groups:
            print(f"round {round_number}/{args.rounds}: {group}", file=sys.stderr, flush=True)
            bert = group in BERT_GROUPS
            our_threads = 1 if args.cpu_time else 2
            times, our_memory = times_of(our_command(args.parsimony, group, our_threads), field)
            for name, time in times.items():
                ours.setdefault(name, []).append(time)
            for threads in (1,) if args.cpu_time else (2,) if bert else (1, 2):
                times, memory = times_of(peer_command(group, threads), field)
                for name, time in times.items():
                    peer.setdefault(name, {}).setdefault(threads, []).append(time)
                if bert:
                    low = peaks.get(group, (our_memory, memory))
                    peaks[group] = (min(low[0], our_memory), min(low[1], memory))
    return ours, peer, peaks


def blas_core():
    """What OpenBLAS takes the CPU for, "" if it does not say."""
    environment = {**os.environ, "OPENBLAS_VERBOSE": "2"}
    done = subprocess.run([sys.executable, "-c", "import torch; torch.ones(9, 9) @ torch.ones(9, 9)"],
                          env=environment, capture_output=True, text=True, check=False)
    return next((line.split(":", 1)[1].strip() for line in (done.stdout + done.stderr).split("\n")
                 if line.startswith("Core:")), "")


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
    parser.add_argument("--groups", nargs="+", default=GROUPS, metavar="PREFIX",
                        help="only groups that begin so, of " + ", ".join(GROUPS))
    parser.add_argument("--cpu-time", action="store_true",
                        help="compare CPU time, with one thread on both sides")
    parser.add_argument("--out", metavar="DIR", help="write ours.json and pytorch.json there")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    args.groups = [g for g in GROUPS if any(g.startswith(prefix) for prefix in args.groups)]
    if not args.groups:
        parser.error("--groups: none begins so; there are " + ", ".join(GROUPS))
    if not os.access(args.parsimony, os.X_OK):
        parser.error(f"--parsimony: {args.parsimony} is not a program; build it first")

    try:
        our_samples, peer_samples, peaks = measure(args)
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
    core = blas_core()
    print(f"OpenBLAS runs PyTorch's products with its {core or 'unknown'} kernels", file=sys.stderr)
    return compare.report(compare.compare(ours, peer, pattern), args.json, peaks)


if __name__ == "__main__":
    sys.exit(main())
