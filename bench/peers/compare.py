"""Set our benchmark times beside PyTorch's and judge the ratio.

Reads the JSON of `parsimony bench --json FILE` and of `matrix_peers.py --json
FILE`, which share names and Google Benchmark's format, and prints a Markdown
table.  The ratio is PyTorch's time (its better thread count) over ours: 2 means
that we are twice as fast.  Some cases have a bound that the ratio must reach.
"""

import argparse
import json
import re
import statistics
import sys

BOUNDS = {
    "dmf_step/full/30": 5,
    "dmf_step/full/100": 1.6,
    "dmf_step/full/300": 3,
    "dmf_step/full/1000": 1.1,
    "dmf_step/compressed/6": 8,
    "dmf_step/compressed/20": 8,
    "completion_step/compressed/1000/5": 10,
    "completion_step/compressed/1000/10": 10,
    "bert_step/deep-lora/tiny": 4,
    "bert_step/deep-lora/mini": 3,
    "bert_step/deep-lora/small": 2,
    "bert_step/deep-lora/base": 1.5,
}
# Our own Deep LoRA step over our plain LoRA step, at most.
DEEP_OVER_PLAIN = 1.05
# The case whose peak memory must not exceed PyTorch's.
MEMORY_BOUND = "bert_step/deep-lora/base"
MICROSECONDS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
# What Google Benchmark appends to a name for the options a benchmark was given.
OPTION_SUFFIX = re.compile(r"/(real_time|process_time|manual_time"
                           r"|(min_time|min_warmup_time|iterations|repeats|threads):[^/]*)(?=/|$)")


def read_times(path, field="real_time"):
    """{name: (microseconds, threads)}; of repetitions the median."""
    with open(path) as file:
        entries = json.load(file)["benchmarks"]
    samples, medians, threads = {}, {}, {}
    for entry in entries:
        if entry.get("error_occurred"):
            continue
        name = OPTION_SUFFIX.sub("", entry.get("run_name", entry["name"]))
        aggregate = entry.get("aggregate_name")
        if aggregate not in (None, "median"):
            continue
        microseconds = entry[field] * MICROSECONDS[entry.get("time_unit", "ns")]
        threads[name] = entry.get("threads")
        if aggregate:
            medians[name] = microseconds
        else:
            samples.setdefault(name, []).append(microseconds)
    times = {name: statistics.median(values) for name, values in samples.items()} | medians
    return {name: (time, threads[name]) for name, time in times.items()}


def compare(ours, peer, pattern=""):
    """One row per case with a bound or with both times, in the order of the peer's file."""
    names = [name for name in [*peer, *(n for n in BOUNDS if n not in peer)]
             if (name in ours or name in BOUNDS) and re.search(pattern, name)]
    rows = []
    for name in names:
        our_time, _ = ours.get(name, (None, None))
        peer_time, peer_threads = peer.get(name, (None, None))
        bound = BOUNDS.get(name)
        ratio = verdict = None
        if our_time is None or peer_time is None:
            verdict = "missing"
        else:
            ratio = peer_time / our_time
            if bound is not None:
                verdict = "holds" if ratio >= bound else "fails"
        rows.append({"name": name, "ours_us": our_time, "pytorch_us": peer_time,
                     "pytorch_threads": peer_threads, "ratio": ratio, "bound": bound,
                     "verdict": verdict})
    return rows


def show(value, form="{:.4g}"):
    return "-" if value is None else form.format(value)


def markdown(rows):
    lines = ["| case | ours, µs | PyTorch, µs | its threads | ratio | bound | verdict |",
             "|---|---:|---:|---:|---:|---:|---|"]
    for row in rows:
        lines.append("| " + " | ".join([
            row["name"], show(row["ours_us"], "{:.1f}"), show(row["pytorch_us"], "{:.1f}"),
            show(row["pytorch_threads"]), show(row["ratio"], "{:.2f}"),
            show(row["bound"], "≥ {}"), show(row["verdict"], "{}")]) + " |")
    return "\n".join(lines)


def deep_over_plain(rows):
    """One entry per size with both of our times: name, ratio, verdict."""
    ours = {row["name"]: row["ours_us"] for row in rows}
    checks = []
    for name, time in ours.items():
        plain = ours.get(name.replace("/deep-lora/", "/lora/"))
        if "/deep-lora/" in name and time is not None and plain is not None:
            checks.append({"name": name, "over_lora": time / plain, "bound": DEEP_OVER_PLAIN,
                           "verdict": "holds" if time <= DEEP_OVER_PLAIN * plain else "fails"})
    return checks


def memory_checks(peaks):
    """One entry per group with (ours, PyTorch's) peak MB."""
    return [{"name": name, "ours_mb": ours, "pytorch_mb": peer,
             "verdict": None if name != MEMORY_BOUND else "holds" if ours <= peer else "fails"}
            for name, (ours, peer) in peaks.items()]


def report(rows, as_json, peaks=None):
    """Prints the rows and what else is judged; the exit code says whether every bound holds."""
    overheads, memory = deep_over_plain(rows), memory_checks(peaks or {})
    if as_json:
        print(json.dumps({"cases": rows, "deep_over_plain": overheads, "memory": memory}, indent=2))
    else:
        print(markdown(rows))
        for check in overheads:
            print(f"\n{check['name']}: {check['over_lora']:.3f} of our LoRA step, "
                  f"bound {check['bound']}: {check['verdict']}")
        if memory:
            print("\n| case | our peak, MB | PyTorch's peak, MB | verdict |\n|---|---:|---:|---|")
        for check in memory:
            print(f"| {check['name']} | {check['ours_mb']:.0f} | {check['pytorch_mb']:.0f} "
                  f"| {show(check['verdict'], '{}')} |")
    failed = any(check["verdict"] in ("fails", "missing") for check in [*rows, *overheads, *memory])
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 every bound holds, 1 one fails or a time is missing, "
               "2 usage or bad input.")
    parser.add_argument("ours", help="JSON of `parsimony bench`")
    parser.add_argument("peer", help="JSON of matrix_peers.py")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases that match")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    times = []
    for path in (args.ours, args.peer):
        try:
            times.append(read_times(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            parser.error(f"{path}: not a readable benchmark file: {error!r}")
    try:
        rows = compare(*times, args.filter)
    except re.error as error:
        parser.error(f"--filter: {error}")
    if not rows:
        parser.error("the two files have no case in common that matches")
    return report(rows, args.json)


if __name__ == "__main__":
    sys.exit(main())
