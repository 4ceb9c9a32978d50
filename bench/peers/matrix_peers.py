"""PyTorch's time for the training steps that `parsimony bench` times on matrices.

Every case bears the name of its counterpart in `parsimony bench` and is one
step (forward, backward, update) in the form PyTorch's own documentation
teaches: leaf tensors, an optimiser from torch.optim, loss.backward().  Of the
equivalent spellings of the loss the fastest one is used.  A time is the median
of several blocks of iterations after a warm-up.

PyTorch's thread count is fixed per process.  Without --threads the cases run
with 1 and with 2 threads, each in a process of its own, and the better of the
two counts for each case.
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
from functools import partial

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit("matrix_peers: needs PyTorch; on Debian: apt install python3-torch")

DEPTH = 3
LEARNING_RATE = 1e-3  # of 0.5 * the sum of squares; stable for every case below
GAMMA = 1e-2  # outer factors learn at GAMMA * LEARNING_RATE
INIT_SCALE = 1e-3
TARGET_RANK = 3
OBSERVED = 0.2
THREAD_COUNTS = (1, 2)


def orthonormal(rows, cols):
    return torch.linalg.qr(torch.randn(rows, cols))[0]


def low_rank_target(d):
    scale = 2 * math.sqrt(d)  # the leading singular values of a Gaussian d x d matrix
    return scale * orthonormal(d, TARGET_RANK) @ orthonormal(d, TARGET_RANK).T


def scaled_orthogonal_factors(d):
    return [(INIT_SCALE * orthonormal(d, d)).requires_grad_() for _ in range(DEPTH)]


def training_step(optimizer, loss):
    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        return value

    return step


def factorisation_step(d):
    """0.5 ||W3 W2 W1 - Phi||_F^2; also the compressed step, where d is the core width."""
    w1, w2, w3 = factors = scaled_orthogonal_factors(d)
    target = low_rank_target(d)
    optimizer = torch.optim.SGD(factors, lr=LEARNING_RATE)
    return training_step(
        optimizer, lambda: 0.5 * F.mse_loss(w3 @ w2 @ w1, target, reduction="sum"))


def completion_problem(d):
    mask = (torch.rand(d, d) < OBSERVED).double()
    return mask, mask * low_rank_target(d)


def completion_step(d):
    """0.5 ||mask * (W3 W2 W1 - Phi)||_F^2."""
    w1, w2, w3 = factors = scaled_orthogonal_factors(d)
    mask, observed = completion_problem(d)
    optimizer = torch.optim.SGD(factors, lr=LEARNING_RATE)
    return training_step(
        optimizer, lambda: 0.5 * F.mse_loss(mask * (w3 @ w2 @ w1), observed, reduction="sum"))


def compressed_completion_step(d, r_hat):
    """0.5 ||mask * (U C3 C2 C1 V^T - Phi)||_F^2 with two learning rates."""
    k = 2 * r_hat
    left = orthonormal(d, k).requires_grad_()
    right = orthonormal(d, k).requires_grad_()
    c1, c2, c3 = cores = [(INIT_SCALE * torch.eye(k)).requires_grad_() for _ in range(DEPTH)]
    mask, observed = completion_problem(d)
    optimizer = torch.optim.SGD(
        [{"params": cores}, {"params": [left, right], "lr": GAMMA * LEARNING_RATE}],
        lr=LEARNING_RATE)
    return training_step(optimizer, lambda: 0.5 * F.mse_loss(
        mask * (left @ c3 @ c2 @ c1 @ right.T), observed, reduction="sum"))


def gemm(d, dtype):
    a, b = torch.randn(d, d, dtype=dtype), torch.randn(d, d, dtype=dtype)
    out = torch.empty(d, d, dtype=dtype)
    return lambda: torch.mm(a, b, out=out)


CASES = {
    **{f"dmf_step/full/{d}": partial(factorisation_step, d) for d in (30, 100, 300, 1000)},
    **{f"dmf_step/compressed/{k}": partial(factorisation_step, k) for k in (6, 20)},
    "completion_step/full/1000": partial(completion_step, 1000),
    **{f"completion_step/compressed/1000/{r_hat}": partial(compressed_completion_step, 1000, r_hat)
       for r_hat in (5, 10)},
    "gemm/f64/1000": partial(gemm, 1000, torch.float64),
    "gemm/f32/1024": partial(gemm, 1024, torch.float32),
}


def run_block(step, iterations):
    start = time.perf_counter()
    for _ in range(iterations):
        result = step()
    seconds = time.perf_counter() - start
    if not torch.isfinite(result).all():
        raise FloatingPointError("the benchmark diverged")
    return seconds


def measure(step, blocks, min_time):
    """Median over the blocks of the seconds per step, and the iterations of a block."""
    iterations, seconds = 1, run_block(step, 2) / 2
    while seconds < min_time:
        iterations = max(2 * iterations, math.ceil(iterations * min_time / seconds))
        seconds = run_block(step, iterations)
    return statistics.median(run_block(step, iterations) / iterations
                             for _ in range(blocks)), iterations


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


def measure_here(names, args):
    torch.set_num_threads(args.threads)
    torch.set_default_dtype(torch.float64)
    benchmarks = []
    for name in names:
        torch.manual_seed(0)
        seconds, iterations = measure(CASES[name](), args.blocks, args.min_time)
        benchmarks.append({"name": name, "iterations": iterations, "real_time": 1e6 * seconds,
                           "time_unit": "us", "threads": args.threads})
        print(f"{name:<34}{1e6 * seconds:>14.1f} us  {args.threads} thread(s)",
              file=sys.stderr, flush=True)
    return {"context": context(args.threads), "benchmarks": benchmarks}


def measure_in_process(threads, args):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "peer.json")
        subprocess.run([sys.executable, os.path.abspath(__file__), "--threads", str(threads),
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


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
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
        names = [name for name in CASES if re.search(args.filter, name)]
    except re.error as error:
        parser.error(f"--filter: {error}")
    if not names:
        parser.error(f"--filter {args.filter!r} matches none of: {', '.join(CASES)}")

    try:
        if args.threads:
            result = measure_here(names, args)
        else:
            result = best_of([measure_in_process(n, args) for n in THREAD_COUNTS])
    except (FloatingPointError, subprocess.CalledProcessError) as error:
        print(f"matrix_peers: {error}", file=sys.stderr)
        return 1
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    print_table(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
