"""Tokens per second of `parsimony generate` and of the plain C loop llama_plain.c, measured alternately.

  run_generate.py PARSIMONY MODEL.bin [--rounds 7] [--tokens 345] [--cc cc]

Compiles the loop with -O3 and without BLAS, runs both with greedy choice on one thread in each round,
checks that they choose the same tokens, and compares the fastest rounds.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parsimony")
    parser.add_argument("model", help="llama2.c's .bin with its vocabulary beside it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=345)
    parser.add_argument("--cc", default="cc")
    args = parser.parse_args()
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        loop = os.path.join(folder, "llama_plain")
        run([args.cc, "-O3", "-o", loop, os.path.join(HERE, "llama_plain.c"), "-lm"])
        for _ in range(args.rounds):
            out = run([loop, args.model, str(args.tokens)])
            plain.append(float(re.search(r"([\d.]+) tokens/s", out.stderr).group(1)))
            chosen = [int(token) for token in out.stdout.split()]
            result = json.loads(run([args.parsimony, "generate", "--model", args.model, "--threads", "1",
                                     "--max-tokens", str(args.tokens), "--json"]).stdout)
            ours.append(result["tokens_per_second"])
            if result["ids"] != chosen:
                sys.exit("the two chose different tokens")
    print(f"tokens             {len(chosen)}, the same")
    print(f"plain C loop       {max(plain):9.0f} tokens/s")
    print(f"parsimony generate {max(ours):9.0f} tokens/s")
    print(f"ratio              {max(ours) / max(plain):9.2f}")


if __name__ == "__main__":
    main()
