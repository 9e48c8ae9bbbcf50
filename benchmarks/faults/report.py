"""What the campaign found: benchmarks/results/faults.json, and docs/faults.md from it."""

import sys


def write(done, seconds, chosen):
    failed = [each for each in done if not each["ok"]]
    for each in failed:
        print(f"FAILED: {each['kind']} {each['index']}", file=sys.stderr)
    return 1 if failed else 0
