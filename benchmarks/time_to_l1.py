"""How much training each objective needs to reach L1 0.05 on sets and sequences: steps, and time as a ratio to TB's.

    python benchmarks/time_to_l1.py [--tasks sets sequences] [--seeds 0 1 2]

The targets and settings of the scale `divergences`, the exact metric, seen every --every steps; only training is timed.
Objectives take turns within a seed. Writes benchmarks/results/time_to_l1.json; nothing is asked for.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path
from statistics import median

import torch
from machine import finish, provenance

from mlegfn.gflownet.training import train
from reproduction.divergences.tasks import new_task
from reproduction.divergences.train import options
from reproduction.params import load

GOAL = 0.05


class Reached(Exception):
    """Ends a training."""


def run(task, objective, seed, every):
    """{"steps", "seconds"} until the goal, or None for both where the settings' steps do not reach it; "last"."""
    settings, model = task.settings, task.model(seed)
    clock = {"started": time.perf_counter(), "waited": 0.0}
    found = {"steps": None, "seconds": None}

    def evaluate(step):
        paused = time.perf_counter()
        found["last"] = task.value(model)[0]
        if found["last"] <= GOAL:
            found.update(steps=step, seconds=paused - clock["started"] - clock["waited"])
            raise Reached
        clock["waited"] += time.perf_counter() - paused

    points = range(every, settings.steps + 1, every)
    key = ("divergences", task.name)
    with contextlib.suppress(Reached):
        train(
            model,
            objective,
            settings,
            *key,
            seed=seed,
            evaluate=evaluate,
            evaluate_at=points,
            **options(objective, settings),
        )
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="+", choices=("sets", "sequences"), default=["sets", "sequences"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    about, started = provenance(), time.perf_counter()
    torch.set_num_threads(1)
    settings = load(Path(__file__).parents[1] / "params.yaml").divergences["divergences"]
    cases = {}
    for name in given.tasks:
        task = new_task(name, getattr(settings.tasks, name))
        rounds = {objective: [] for objective in task.settings.objectives}
        run(task, "trajectory_balance", given.seeds[0], task.settings.steps)  # compiles
        for seed in given.seeds:
            for objective, found in rounds.items():
                found.append(run(task, objective, seed, given.every))
                print(name, seed, objective, found[-1], flush=True)
        cases[name] = {
            objective: summary(found, rounds["trajectory_balance"]) for objective, found in rounds.items()
        }
    return finish(
        *("time_to_l1", about, started, {}),
        **{
            "results": given.results,
            "seeds": given.seeds,
            "goal": GOAL,
            "every": given.every,
            "cases": cases,
        },
    )


def summary(rounds, reference):
    """Medians over seeds, null where a seed did not reach the goal; the time as a ratio to the reference's."""
    reached = all(one["steps"] is not None for one in rounds + reference)
    ratios = [one["seconds"] / other["seconds"] for one, other in zip(rounds, reference)] if reached else []
    steps = [one["steps"] for one in rounds]
    return {
        "steps": median(steps) if None not in steps else None,
        "time_over_trajectory_balance": median(ratios) if reached else None,
        "rounds": [{key: one[key] for key in ("steps", "last")} for one in rounds],
    }


if __name__ == "__main__":
    sys.exit(main())
