"""How much TBC and a learned P_B tighten the ELBO of an any-order model, on five bits where all orders are enumerated.

    python benchmarks/any_order.py [--seeds 0 1 2] [--steps 600] [--weights 0.3 1]

Every seed's arms have the same initial weights, P_B uniform, and the same number of steps, data and trajectories:
a random or a learned P_B, without and with TBC of several weights λ; and P_B alone trained for as many steps more on
the P_F that the random one left. Adds to benchmarks/results/any_order.json, for every run, exactly: NLL and −ELBO
above the best possible, and the gap log p(x) − ELBO, nats, means over the target; and of each arm the paired
differences to the random P_B with 95 % Student intervals over seeds.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import RESULTS, provenance

from mlegfn.artifacts import write_json
from mlegfn.families.any_order import AnyOrder
from mlegfn.families.shared.orders.tightening import measured, trained
from reproduction.verdicts.statistics import student

RANDOM = "random P_B"


def runs(seed, steps, weights):
    """{arm: (numbers, seconds)} of one seed."""
    found = {}

    def run(name, **how):
        began = time.perf_counter()
        model = trained(AnyOrder, steps, seed, **how)
        found[name] = measured(model) | {"seconds": round(time.perf_counter() - began, 1)}
        return model

    model = run(RANDOM, learned=False, weight=0.0)
    run("learned P_B on the P_F of the random one", learned=True, weight=0.0, start=model)
    run("learned P_B", learned=True, weight=0.0)
    for weight in weights:
        run(f"random P_B, TBC λ = {weight:g}", learned=False, weight=weight)
        run(f"learned P_B, TBC λ = {weight:g}", learned=True, weight=weight)
    return found


def compared(by_seed):
    """{arm: {number: mean, and difference to the random P_B with its interval}} over seeds."""
    arms = {}
    for arm in next(iter(by_seed.values())):
        arms[arm] = {}
        for number in ("NLL", "−ELBO", "gap"):
            values = [found[arm][number] for found in by_seed.values()]
            less = [found[arm][number] - found[RANDOM][number] for found in by_seed.values()]
            arms[arm][number] = {"mean": sum(values) / len(values), "difference": student(less)}
    return arms


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--weights", type=float, nargs="*", default=[0.3, 1.0])
    options = parser.parse_args()
    if len(options.seeds) < 2:
        parser.error("an interval needs two seeds or more")
    path = RESULTS / "any_order.json"
    known = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    by_seed = known["runs"].setdefault(str(options.steps), {})
    for seed in options.seeds:
        by_seed[str(seed)] = runs(seed, options.steps, options.weights)
    known |= {
        "provenance": provenance(),
        "compared": {steps: compared(found) for steps, found in known["runs"].items()},
    }
    write_json(path, known)
    for arm, numbers in known["compared"][str(options.steps)].items():
        shown = (
            f"{n} {v['mean']:.4f} ({v['difference'][0]:+.4f}, {v['difference'][1]:+.4f} … {v['difference'][2]:+.4f})"
            for n, v in numbers.items()
        )
        print(f"{arm:42} " + "  ".join(shown))


if __name__ == "__main__":
    main()
