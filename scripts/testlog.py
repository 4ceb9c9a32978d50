#!/usr/bin/env python3
"""Reads what meson wrote about tests, for scripts/test.sh.

  testlog.py count LOG            "PASSED FAILED" of a testlog.json; failures are named on stderr
  testlog.py targets DIR TEST...  the ninja targets that these tests need, one a line

A test program that says how many cases it ran (Catch2, unittest, or a line "N passed, N failed")
counts as that many; any other as one. A program that failed counts as one failure at least.
"""
import json
import os
import re
import subprocess
import sys

CATCH_ALL = re.compile(r"^All tests passed \(\d+ assertions? in (\d+) test cases?\)", re.M)
CATCH_SOME = re.compile(r"^test cases:\s*\d+(.*)$", re.M)
PLAIN = re.compile(r"^(\d+) passed, (\d+) failed$", re.M)
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*\n\n(?:OK|FAILED)(.*)$", re.M)


def numbers(text):
    """{"failed": 2, …} from "| 3 passed | 2 failed" and from "(failures=2, skipped=1)"."""
    found = {word: int(n) for n, word in re.findall(r"(\d+) (failed as expected|\w+)", text)}
    found.update({word: int(n) for word, n in re.findall(r"([\w ]+)=(\d+)", text)})
    return {word.strip(): n for word, n in found.items()}


def cases(out, err):
    """(passed, failed) that a test program reported, or None."""
    match = CATCH_ALL.search(out)
    if match:
        return int(match.group(1)), 0
    match = CATCH_SOME.search(out)
    if match:
        n = numbers(match.group(1))
        return n.get("passed", 0) + n.get("failed as expected", 0), n.get("failed", 0)
    found = PLAIN.findall(out)
    if found:
        return int(found[-1][0]), int(found[-1][1])
    match = UNITTEST.search(err) or UNITTEST.search(out)
    if match:
        n = numbers(match.group(2))
        failed = n.get("failures", 0) + n.get("errors", 0) + n.get("unexpected successes", 0)
        return int(match.group(1)) - failed - n.get("skipped", 0), failed
    return None


def count(log):
    passed = failed = 0
    try:
        with open(log, encoding="utf-8") as lines:
            tests = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        print(f"no usable test log: {error}", file=sys.stderr)
        return 0, 1
    if not tests:
        print(f"{log}: no test ran", file=sys.stderr)
        return 0, 1
    for test in tests:
        out, err = test.get("stdout") or "", test.get("stderr") or ""
        reported = cases(out, err)
        if test["result"] == "SKIP":
            print(f"skipped: {test['name']}", file=sys.stderr)
        elif test["result"] in ("OK", "EXPECTEDFAIL"):
            passed += reported[0] if reported else 1
        else:
            print(f"failed: {test['name']} ({test['result']})", file=sys.stderr)
            passed += reported[0] if reported else 0
            failed += max(reported[1], 1) if reported else 1
    return passed, failed


def targets(build, names):
    def introspect(what):
        return json.loads(subprocess.check_output(["meson", "introspect", build, what]))

    tests = [test for test in introspect("--tests") if test["name"] in names]
    unknown = set(names) - {test["name"] for test in tests}
    if unknown:
        sys.exit(f"testlog.py: {build} has no test named {', '.join(sorted(unknown))}")
    needed = {target for test in tests for target in test["depends"]}
    files = [file for target in introspect("--targets") if target["id"] in needed
             for file in target["filename"]]
    return sorted(os.path.relpath(file, os.path.abspath(build)) for file in files)


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "count":
        print(*count(arguments[1]))
    elif len(arguments) >= 3 and arguments[0] == "targets":
        print("\n".join(targets(arguments[1], arguments[2:])))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
