"""Search for a setting of MLE-GFN that lowers NLL on the planar problems, against controls of equal compute.

    python benchmarks/recipe_planar.py [--seeds 0 1 2] [--problems 2spirals 8gaussians] [--only GROUP …]

For every problem and seed one DDPM is pretrained (scale digits) and trained on in many ways. A *group*
is what its arms share: reverse variance, learning rate, chain, number of trajectories. Each has the
controls `simple` and `vlb`, on the same points, noise and number of network evaluations, and some
settings of the arm `tbc`. Writes benchmarks/results/recipe_planar.json: for every run the NLL by importance
weighting, the ELBO and E[Var log w] on test points; and of each setting the paired differences to both
controls with 95 % Student intervals over all problems × seeds.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from machine import provenance

from mlegfn.artifacts import write_json
from mlegfn.data import planar as data
from mlegfn.diffusion.importance import log_weights
from mlegfn.randomness import generator
from reproduction.params import load
from reproduction.planar import experiment as planar
from reproduction.verdicts.statistics import student

# What the arms of a group share, by the block of params.yaml in which it stands.
GROUPS = {
    "analytic": {},
    "learned": {"diffusion": {"variance": "learned"}},
    "8 trajectories": {"consistency": {"images": 4, "trajectories": 8}},
    "respaced": {"consistency": {"chain": "respaced", "chain_steps": 15, "images": 64}},
    "subtrajectory": {"consistency": {"chain": "subtrajectory", "chain_steps": 6, "images": 160}},
    "lr / 4": {"finetune_optimizer": {"lr": 0.00025}},
    "large": {"diffusion": {"variance": "large"}},
    "small": {"diffusion": {"variance": "small"}},
}
# (group, anchor, λ, what else of `consistency` only tbc reads)
SETTINGS = [
    *(("analytic", "simple", weight, {}) for weight in (1e-4, 1e-3, 1e-2)),
    *(("analytic", "vlb", weight, {}) for weight in (1e-4, 1e-3, 1e-2, 1e-1)),
    ("analytic", "vlb", 1e-2, {"loss": "huber", "huber_delta": 1.0}),
    ("learned", "simple", 1e-3, {}),
    ("learned", "vlb", 1e-3, {}),
    ("learned", "vlb", 1e-2, {}),
    ("8 trajectories", "simple", 1e-3, {}),
    ("8 trajectories", "vlb", 1e-2, {}),
    ("respaced", "simple", 1e-3, {}),
    ("respaced", "vlb", 1e-2, {}),
    ("subtrajectory", "simple", 1e-2, {}),
    ("subtrajectory", "vlb", 1e-2, {}),
    ("subtrajectory", "vlb", 1e-1, {}),
    ("lr / 4", "simple", 1e-3, {}),
    ("lr / 4", "vlb", 1e-2, {}),
    ("large", "simple", 1e-3, {}),
    ("large", "vlb", 1e-2, {}),
    ("small", "vlb", 1e-2, {}),
]
METRICS = ("nll", "elbo_nll", "log_w_variance")


def merged(settings, changes):
    """``Planar`` settings with ``changes`` {field: value, or a dict of changes to that block}."""
    update = {
        name: getattr(settings, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return settings.model_copy(update=update)


def measure(problem, settings, start, arm, options):
    """Fine-tune one arm from ``start``; its result as a JSON-able dict."""
    began = time.process_time()
    try:
        model, evaluations, _ = planar.finetune(problem, settings, start, arm)
    except FloatingPointError as error:
        return {"problem": problem, "seed": start.seed, "diverged": str(error)}
    trained = time.process_time()
    test = start.units.to_model(data.sample(problem, options.points, generator(0, "recipe", problem, "test")))
    log_w = log_weights(model, test, range(options.trajectories), (0, "recipe", problem))
    found = planar.likelihood_fields(log_w + start.units.log_jacobian)
    return {
        "problem": problem,
        "seed": start.seed,
        **{name: found[name] for name in (*METRICS, "nll_standard_error", "nll_bias")},
        "forward": evaluations.forward,
        "backward": evaluations.backward,
        "train_cpu_seconds": trained - began,
    }


def paired(runs, control):
    """{metric: mean, 95 % interval and the values of runs − control}, or None where one diverged."""
    if any("diverged" in run for run in runs + control):
        return None
    found = {}
    for metric in METRICS:
        values = [a[metric] - b[metric] for a, b in zip(runs, control, strict=True)]
        mean, low, high = student(values)
        found[metric] = {"mean": mean, "interval": [low, high], "values": values}
    return found


def shown(differences):
    """A line for the eyes: mean [interval] of each metric."""
    if differences is None:
        return "diverged"
    each = ((m, d["mean"], *d["interval"]) for m, d in differences.items())
    return ", ".join(f"{m} {mean:+.4f} [{low:+.4f}, {high:+.4f}]" for m, mean, low, high in each)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--problems", nargs="+", default=["2spirals", "8gaussians"])
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="groups to run")
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--trajectories", type=int, default=16)
    parser.add_argument("--out", default="benchmarks/results/recipe_planar.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, base = time.perf_counter(), load().planar["digits"]
    record = {"command": " ".join(sys.argv), "planar": base.model_dump(), "provenance": provenance()}
    starts, results = {}, []

    def starting_points(settings):
        network = settings.diffusion.variance == "learned"
        if network not in starts:
            starts[network] = [
                planar.pretrain(p, settings, s) for p in options.problems for s in options.seeds
            ]
        return zip([p for p in options.problems for _ in options.seeds], starts[network], strict=True)

    def everywhere(settings, arm):
        return [measure(p, settings, start, arm, options) for p, start in starting_points(settings)]

    for name in options.only or GROUPS:
        group = merged(base, GROUPS[name])
        controls = {}
        for arm in ("simple", "vlb"):
            controls[arm] = everywhere(group, arm)
            results.append({"group": name, **GROUPS[name], "arm": arm, "runs": controls[arm]})
        results[-1]["minus_simple"] = paired(controls["vlb"], controls["simple"])
        print(f"{name:15s} vlb - simple: {shown(results[-1]['minus_simple'])}", flush=True)
        for own_group, anchor, weight, own in SETTINGS:
            if own_group != name:
                continue
            runs = everywhere(
                merged(group, {"anchor": anchor, "consistency": {"weight": weight, **own}}), "tbc"
            )
            entry = {
                "group": name,
                **GROUPS[name],
                "arm": "tbc",
                "anchor": anchor,
                "weight": weight,
                **own,
                "runs": runs,
                "minus_simple": paired(runs, controls["simple"]),
                "minus_vlb": paired(runs, controls["vlb"]),
            }
            results.append(entry)
            print(
                f"{name:15s} {anchor} + {weight:g} TBC {own or ''} - {anchor}: {shown(entry[f'minus_{anchor}'])}",
                flush=True,
            )
        write_json(options.out, {**record, "results": results, "wall_seconds": time.perf_counter() - began})


if __name__ == "__main__":
    main()
