"""A short table of what gpu.sh has measured and run: python benchmarks/gpu/summary.py RESULTS HOUR"""

import json
import sys
from pathlib import Path


def bars(results):
    """Lines for the bars of every benchmark JSON in a folder."""
    for file in sorted(Path(results).glob("*.json")):
        found = json.loads(file.read_text())
        device = found["gpu"] or found["cpu"]
        yield f"{file.stem} on {device}{', TINY: means nothing' if found.get('tiny') else ''}"
        for name, bar in found["bars"].items():
            met = "met" if bar["met"] else "MISSED"
            yield f"  {name:<66}{bar['value']:>10.3f} {bar['is']} {bar['bound']:g} {met}"
        for kind, rate in found.get("rates", {}).items():
            yield f"  {kind:<66}{rate or float('nan'):>10.1f} states/s"


def likelihoods(hour):
    """Lines for every NLL that is there."""
    for file in sorted(Path(hour).glob("results/*/images/metrics/nll/*/*.json")):
        found, run = json.loads(file.read_text()), f"{file.parent.name} {file.stem}"
        for point in found["points"]:
            yield f"  {run:<30} step {point['step']:>7}  {point['bits_per_dim']:.4f} bits/dim"


def main(results, hour):
    print("\n".join([*bars(results), *likelihoods(hour)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
