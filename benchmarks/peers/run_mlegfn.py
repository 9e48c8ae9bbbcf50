"""Trajectory balance by mlegfn, asked as its peers are: see tasks.py."""

import argparse
import json
import sys
from importlib.metadata import version

import tasks
import torch


def ours(task, batch, iterations):
    """Iterations per second of a new model, after a warm-up of its own."""
    from mlegfn.gflownet.benchmarking import iterations_per_second

    return iterations_per_second(task, batch, iterations, objective="trajectory_balance")


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=tasks.TASKS)
    parser.add_argument("batch", type=int)
    options = parser.parse_args()
    about = {"task": options.task, "batch": options.batch, "versions": {"torch": version("torch")}}
    for line in sys.stdin:
        _, iterations, atleast = line.split()
        seconds, models = 0.0, 0
        while seconds < float(atleast) or not models:
            seconds += int(iterations) / ours(options.task, options.batch, int(iterations))
            models += 1
        total = models * int(iterations)
        found = {"iterations": total, "models": models, "seconds": seconds, "per_second": total / seconds}
        print(json.dumps({**about, **found}), flush=True)


if __name__ == "__main__":
    main()
