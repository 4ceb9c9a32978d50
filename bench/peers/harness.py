"""What the peer programs share: timing, the thread counts, the command line and the JSON.

PyTorch's thread count is fixed per process.  Without --threads the cases run
with 1 and with 2 threads, each in a process of its own, and the better of the
two counts for each case.  A time is the median of several blocks of iterations
after a warm-up.
"""

import argparse
import datetime
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import torch
except ImportError:
    sys.exit(f"{os.path.basename(sys.argv[0])}: needs PyTorch; on Debian: apt install python3-torch")

THREAD_COUNTS = (1, 2)


def run_block(step, iterations):
    """Seconds by the clock and of all threads' CPU time."""
    start, start_cpu = time.perf_counter(), time.process_time()
    for _ in range(iterations):
        result = step()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    if not torch.isfinite(result).all():
        raise FloatingPointError("the benchmark diverged")
    return seconds, cpu_seconds


def measure(step, blocks, min_time):
    """Medians over the blocks of the seconds and CPU seconds per step; iterations of a block."""
    iterations, seconds = 1, run_block(step, 2)[0] / 2
    while seconds < min_time:
        iterations = max(2 * iterations, math.ceil(iterations * min_time / seconds))
        seconds = run_block(step, iterations)[0]
    times = [run_block(step, iterations) for _ in range(blocks)]
    return *(statistics.median(column) / iterations for column in zip(*times)), iterations


def cpu_model():
    with open("/proc/cpuinfo") as info:
        return next((line.split(":", 1)[1].strip() for line in info
                     if line.startswith("model name")), "unknown")


def blas_library():
    """File names of the BLAS that was really loaded; PyTorch only knows it as 'generic'."""
    with open("/proc/self/maps") as maps:
        return ", ".join(sorted({os.path.basename(line.split()[-1])
                                 for line in maps if "blas" in line}))


def context(threads):
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "blas": blas_library(),
        "cpu_model": cpu_model(),
        "num_cpus": os.cpu_count(),
        "threads": threads,
    }


def measure_here(cases, names, args):
    torch.set_num_threads(args.threads)
    benchmarks = []
    for name in names:
        torch.manual_seed(0)
        seconds, cpu_seconds, iterations = measure(cases[name](), args.blocks, args.min_time)
        benchmarks.append({"name": name, "iterations": iterations, "real_time": 1e6 * seconds,
                           "cpu_time": 1e6 * cpu_seconds, "time_unit": "us",
                           "threads": args.threads})
        print(f"{name:<34}{1e6 * seconds:>14.1f} us {1e6 * cpu_seconds:>14.1f} us CPU  "
              f"{args.threads} thread(s)",
              file=sys.stderr, flush=True)
    return {"context": context(args.threads), "benchmarks": benchmarks}


def measure_in_process(threads, args):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "peer.json")
        subprocess.run([sys.executable, os.path.abspath(sys.argv[0]), "--threads", str(threads),
                        "--filter", args.filter, "--blocks", str(args.blocks),
                        "--min-time", str(args.min_time), "--json", path],
                       check=True, stdout=subprocess.DEVNULL)
        with open(path) as file:
            return json.load(file)


def best_of(runs):
    """One entry per name, that of the faster thread count, with the other times beside it."""
    benchmarks = []
    for entries in zip(*(run["benchmarks"] for run in runs)):
        best = dict(min(entries, key=lambda entry: entry["real_time"]))
        best["real_time_by_threads"] = {str(e["threads"]): e["real_time"] for e in entries}
        benchmarks.append(best)
    counts = [run["context"]["threads"] for run in runs]
    return {"context": {**runs[0]["context"], "threads": counts}, "benchmarks": benchmarks}


def print_table(result):
    counts = sorted({count for b in result["benchmarks"]
                     for count in b.get("real_time_by_threads", {})})
    print(f"{'case':<34}{'us per step':>14}{'threads':>9}"
          + "".join(f"{count + ' thread(s)':>15}" for count in counts))
    for b in result["benchmarks"]:
        print(f"{b['name']:<34}{b['real_time']:>14.1f}{b['threads']:>9}"
              + "".join(f"{b['real_time_by_threads'][count]:>15.1f}" for count in counts))


def positive(kind):
    def parse(text):
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value

    parse.__name__ = f"positive {kind.__name__}"
    return parse


def main(cases, description):
    """The program of a peer: `cases` gives for each name a maker of a step, run once each."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 done, 1 a benchmark failed, 2 usage.")
    parser.add_argument("--threads", type=positive(int),
                        help="run in this process with so many threads")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases that match")
    parser.add_argument("--blocks", type=positive(int), default=7, help="blocks per case (7)")
    parser.add_argument("--min-time", type=positive(float), default=0.1, metavar="S",
                        help="least seconds of a block (0.1)")
    parser.add_argument("--json", metavar="FILE", help="also write Google Benchmark's JSON")
    args = parser.parse_args()
    try:
        names = [name for name in cases if re.search(args.filter, name)]
    except re.error as error:
        parser.error(f"--filter: {error}")
    if not names:
        parser.error(f"--filter {args.filter!r} matches none of: {', '.join(cases)}")

    try:
        if args.threads:
            result = measure_here(cases, names, args)
        else:
            result = best_of([measure_in_process(n, args) for n in THREAD_COUNTS])
    except (FloatingPointError, subprocess.CalledProcessError) as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        return 1
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    print_table(result)
    return 0

