"""What a control variate costs: a whole training step with each, as a ratio to the step without.

    python benchmarks/control_variates.py [--repeats 9] [--steps 100]

Sets of 16 of 32 elements, batch 128, 2 × 64, Tsallis-0.5 and reverse KL: rollout, loss, gradient, Adam. All take turns
in every round; medians of the rounds' ratios. The bar is 1.1 (issue 5). Writes benchmarks/results/control_variates.json.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from machine import finish, provenance

from mlegfn.gflownet.environment import Members
from mlegfn.gflownet.model import GFlowNet
from mlegfn.gflownet.policies import MLPPolicy
from mlegfn.gflownet.training import train
from mlegfn.objectives.control_variates import CONTROL_VARIATES
from mlegfn.targets.sets import Sets


def seconds(objective, variate, steps, turn):
    torch.manual_seed(turn)
    target = Sets()
    model = GFlowNet(MLPPolicy(target), Members(target))
    settings = SimpleNamespace(steps=steps, batch=128, lr=1e-3, log_z_lr=0.1, exploration=0.0, replay=0.0)
    started = time.perf_counter()
    train(model, objective, settings, seed=turn, control_variate=variate)
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    about, started = provenance(), time.perf_counter()
    torch.set_num_threads(1)
    ratios, bars = {}, {}
    for objective in ("tsallis", "reverse_kl"):
        rounds = []
        seconds(objective, "none", 10, 0)  # compiles
        for turn in range(given.repeats):
            order = CONTROL_VARIATES if turn % 2 == 0 else CONTROL_VARIATES[::-1]
            rounds.append({variate: seconds(objective, variate, given.steps, turn) for variate in order})
        for variate in CONTROL_VARIATES[1:]:
            ratio = median(each[variate] / each["none"] for each in rounds)
            ratios[f"{objective}, {variate}"] = ratio
            bars[f"{objective}: a step with {variate} over one without"] = (ratio, "<=", 1.1)
            print(objective, variate, round(ratio, 3), flush=True)
    return finish(
        *("control_variates", about, started, bars),
        **{
            "results": given.results,
            "seeds": list(range(given.repeats)),
            "steps": given.steps,
            "ratios": ratios,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
