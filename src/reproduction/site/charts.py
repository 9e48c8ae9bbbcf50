"""The interactive charts: their rows, their series for the check boxes, their menu, and what they show in words."""

import numpy as np

from reproduction.divergences.report.metrics import OBJECTIVES
from reproduction.site import artifacts
from reproduction.site.vegalite import specification
from reproduction.verdicts import statistics

__all__ = ["curves", "nll", "terms"]

ARMS = {
    "baseline": "DDPM baseline",
    "simple": "L_simple",
    "simple_tbc": "MLE-GFN: L_simple + λ·TBC",
    "reweighted": "L_simple + μ·bound",
    "vlb": "bound",
    "vlb_tbc": "bound + λ·TBC",
}


def nll(scale):
    """Test NLL along training, the baseline and every arm from every checkpoint, against steps or evaluations.

    Every point is a mean over the pretraining seeds.
    """
    runs = {}  # {(checkpoint, arm): {fine-tuning step: rows, one a seed}}
    for row in artifacts.rows(scale, "images", "paired"):
        run = runs.setdefault((int(row["checkpoint"]), row["arm"]), {})
        run.setdefault(int(row["finetune_step"]), []).append(row)
    saved = [row for row in artifacts.rows(scale, "images", "nll") if row["arm"] == "baseline"]
    seeds = _seeds(scale)
    baseline, costs = {}, {}
    for step in (int(row["step"]) for row in saved):
        measured = [artifacts.nll_point(scale, "baseline", step, seed, 0) for seed in seeds]
        baseline[step] = [point["bits_per_dim"] for point in measured]
        costs[step] = artifacts.training_cost(scale, step, seeds[0])  # the same of every seed
    points = [_point("baseline", step, step, costs[step], values) for step, values in baseline.items()]
    for (checkpoint, arm), steps in runs.items():
        points.append(_point(arm, checkpoint, checkpoint, costs[checkpoint], baseline[checkpoint]))
        for step, rows in steps.items():
            spent = np.mean([float(row["evaluations"]) for row in rows])
            values = [float(row["bits_per_dim"]) for row in rows]
            points.append(_point(arm, checkpoint, checkpoint + step, costs[checkpoint] + spent, values))
    arms = ["baseline", *dict.fromkeys(arm for _, arm in runs)]
    chart = {
        "x": ("training steps", "network evaluations (forward + backward)"),
        "y": "test NLL (bits/dim)",
        "tooltip": {
            "name": "model",
            "checkpoint": "from step",
            "steps": "step",
            "evaluations": "evaluations",
            "value": "bits/dim",
            "spread": "95 % over seeds",
        },
    }
    return {
        "spec": specification(points, arms, chart, menu="against"),
        "series": [{"key": arm, "title": ARMS[arm]} for arm in arms],
        "menu": {
            "name": "against",
            "label": "Against",
            "options": [("steps", "training steps"), ("evaluations", "network evaluations")],
        },
        "about": (
            f"Test NLL of {_listed(arms)} at the scale {scale}, "
            f"{saved[0]['images']} test images, means over {len(seeds)} pretraining seeds, with the baseline's 95 % band; "
            "the table below has every value."
        ),
    }


def terms(scale):
    """What fine-tuning from a checkpoint changes in each term of the bound, after its last step."""
    runs = {}  # {(checkpoint, arm): {seed: last fine-tuning step}}
    for row in artifacts.rows(scale, "images", "paired"):
        runs.setdefault((int(row["checkpoint"]), row["arm"]), {})[row["seed"]] = int(row["finetune_step"])
    checkpoints, arms = (list(dict.fromkeys(key[k] for key in runs)) for k in (0, 1))
    rows = []
    for (checkpoint, arm), seeds in runs.items():
        changes = [_change(scale, arm, checkpoint, seed, step) for seed, step in seeds.items()]
        for t, values in enumerate(np.transpose(changes)):
            mean, low, high = _interval(values)
            rows.append(
                {
                    "series": arm,
                    "name": ARMS[arm],
                    "checkpoint": str(checkpoint),
                    "line": arm,
                    "steps": t,
                    "value": mean * 1000,
                    "low": low * 1000,
                    "high": high * 1000,
                }
            )
    names = [str(checkpoint) for checkpoint in checkpoints]
    chart = {
        "x": ("term of the bound, from decoder to prior",),
        "y": "change by fine-tuning (10⁻³ bits/dim)",
        "tooltip": {"name": "arm", "checkpoint": "from step", "steps": "term", "value": "10⁻³ bits/dim"},
    }
    return {
        "spec": specification(rows, arms, chart, menu="checkpoint", first=names[-1], small=True),
        "series": [{"key": arm, "title": ARMS[arm]} for arm in arms],
        "menu": {
            "name": "checkpoint",
            "label": "Fine-tuned from step",
            "options": [(name, name) for name in reversed(names)],
        },
        "about": (
            f"Change of each term of the bound by fine-tuning with {_listed(arms)} at the scale "
            f"{scale}; below zero is better, and the sum over the terms is the change of the NLL."
        ),
    }


def curves(scale):
    """Distance to the target against trajectories sampled, an objective a line, a task at a time."""
    rows, tasks = [], artifacts.divergence_tasks(scale)
    for task, value in tasks.items():
        runs = {}  # {objective: its curves, one a seed}
        for run in value["runs"]:
            runs.setdefault(run["objective"], []).append(run["curve"])
        for name, seeds in runs.items():
            for k, step in enumerate(seeds[0]["step"]):
                values = [curve["value"][k] for curve in seeds]
                rows.append(
                    {
                        "series": name,
                        "name": OBJECTIVES[name].title,
                        "task": task,
                        "line": name,
                        "steps": step * value["batch"],
                        "value": float(np.mean(values)),
                        "low": min(values),
                        "high": max(values),
                        "spread": f"{min(values):.3g} to {max(values):.3g}, {len(values)} seeds",
                    }
                )
    names = {row["series"] for row in rows}
    order = [name for name in OBJECTIVES if name in names]
    chart = {
        "x": ("trajectories sampled",),
        "y": "distance to the target (L1, or JSD in nats)",
        "tooltip": {
            "name": "objective",
            "steps": "trajectories",
            "value": "distance",
            "spread": "over seeds",
        },
    }
    return {
        "spec": specification(rows, order, chart, menu="task", first=next(iter(tasks)), log=True),
        "series": [{"key": name, "title": OBJECTIVES[name].title} for name in order],
        "menu": {
            "name": "task",
            "label": "Task",
            "options": [(task, f"{value['title']} ({value['metric']})") for task, value in tasks.items()],
        },
        "about": (
            f"Distance to the target against trajectories sampled at the scale {scale}, the mean over seeds "
            "and the range; lower is better. The table of every objective below has the final values."
        ),
    }


def _seeds(scale):
    """The pretraining seeds of a scale, as its table of every run names them."""
    return list(dict.fromkeys(row["seed"] for row in artifacts.rows(scale, "images", "paired")))


def _change(scale, arm, checkpoint, seed, step):
    """What ``step`` steps of an arm changed in each term of the bound of the baseline ``seed``, [T + 1]."""
    end = artifacts.nll_point(scale, arm, checkpoint, seed, step)
    start = artifacts.nll_point(scale, "baseline", checkpoint, seed, 0)
    return np.subtract(end["terms"], start["terms"])


def _listed(arms):
    return ", ".join(ARMS[arm] for arm in arms)


def _point(arm, checkpoint, step, evaluations, values):
    """A point of the chart of NLL. Only the baseline has a band: the arms' are nearly the same, on top of it."""
    mean, low, high = _interval(values)
    band = (low, high) if arm == "baseline" else (mean, mean)
    return {
        "series": arm,
        "name": ARMS[arm],
        "checkpoint": checkpoint,
        "line": arm if arm == "baseline" else f"{arm} {checkpoint}",
        "steps": step,
        "evaluations": round(evaluations),
        "value": mean,
        "low": band[0],
        "high": band[1],
        "spread": f"{low:.4f} to {high:.4f}" if high > low else "one model",
    }


def _interval(values):
    """(mean, low, high) by Student's t; of one value, that value three times."""
    mean, low, high = (float(bound) for bound in statistics.student(np.asarray(values)))
    return (mean, low, high) if low == low else (mean, mean, mean)
