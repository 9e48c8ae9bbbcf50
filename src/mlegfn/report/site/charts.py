"""The interactive charts: their rows, their series for the check boxes, their menu, and what they show in words."""

import numpy as np

from mlegfn.report import statistics
from mlegfn.report.divergence_metrics import OBJECTIVES
from mlegfn.report.site.vegalite import specification

ARMS = {"baseline": "DDPM baseline", "simple": "L_simple", "vlb": "L_vlb", "tbc": "MLE-GFN"}


def nll(metrics):
    """Test NLL along training, the baseline and every arm from every checkpoint, against steps or evaluations."""
    rows = [
        _point("baseline", step, step, step * metrics.baseline_cost, [point.bits_per_dim])
        for step, point in metrics.baseline.items()
    ]
    for checkpoint in metrics.checkpoints:
        start, cost = metrics.baseline[checkpoint].bits_per_dim, checkpoint * metrics.baseline_cost
        for arm in metrics.arms:
            rows.append(_point(arm, checkpoint, checkpoint, cost, [start]))
            for step in metrics.steps:
                values = metrics.per_image(checkpoint, arm, step).mean(axis=1)
                spent = cost + metrics.spent(checkpoint, arm, step)
                rows.append(_point(arm, checkpoint, checkpoint + step, spent, values))
    arms = ["baseline", *metrics.arms]
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
        "spec": specification(rows, arms, chart, menu="against"),
        "series": [{"key": arm, "title": ARMS[arm]} for arm in arms],
        "menu": {
            "name": "against",
            "label": "Against",
            "options": [("steps", "training steps"), ("evaluations", "network evaluations")],
        },
        "about": (
            f"Test NLL of {listed_arms(arms)} at the scale {metrics.name}, "
            f"{metrics.about['images']} test images; the table below has every value."
        ),
    }


def terms(metrics, raw):
    """What fine-tuning from a checkpoint changes in each term of the bound.

    ``raw``: {(checkpoint, arm, seed): the terms [T + 1] after the last step}, and under (checkpoint, None, None) the
    baseline's there.
    """
    rows = []
    for checkpoint in metrics.checkpoints:
        start = np.array(raw[checkpoint, None, None])
        for arm in metrics.arms:
            change = np.array([raw[checkpoint, arm, seed] for seed in metrics.seeds]) - start
            for t, values in enumerate(change.T):
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
    names = [str(checkpoint) for checkpoint in metrics.checkpoints]
    chart = {
        "x": ("term of the bound, from decoder to prior",),
        "y": "change by fine-tuning (10⁻³ bits/dim)",
        "tooltip": {"name": "arm", "checkpoint": "from step", "steps": "term", "value": "10⁻³ bits/dim"},
    }
    return {
        "spec": specification(rows, metrics.arms, chart, menu="checkpoint", first=names[-1], small=True),
        "series": [{"key": arm, "title": ARMS[arm]} for arm in metrics.arms],
        "menu": {
            "name": "checkpoint",
            "label": "Fine-tuned from step",
            "options": [(name, name) for name in reversed(names)],
        },
        "about": (
            f"Change of each term of the bound by fine-tuning with {listed_arms(metrics.arms)} at the scale "
            f"{metrics.name}; below zero is better, and the sum over the terms is the change of the NLL."
        ),
    }


def curves(metrics):
    """Distance to the target against trajectories sampled, an objective a line, a task at a time."""
    rows, names = [], []
    for task, value in metrics.tasks.items():
        for name in metrics.settings.tasks[task].objectives:
            names.append(name)
            found = [run["curve"] for run in metrics.runs(task, name)]
            for k, step in enumerate(found[0]["step"]):
                values = [curve["value"][k] for curve in found]
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
    tasks = list(metrics.tasks)
    return {
        "spec": specification(rows, order, chart, menu="task", first=tasks[0], log=True),
        "series": [{"key": name, "title": OBJECTIVES[name].title} for name in order],
        "menu": {
            "name": "task",
            "label": "Task",
            "options": [
                (task, f"{metrics.tasks[task]['title']} ({metrics.tasks[task]['metric']})") for task in tasks
            ],
        },
        "about": (
            f"Distance to the target against trajectories sampled at the scale {metrics.name}, the mean over seeds "
            "and the range; lower is better. The table of every objective below has the final values."
        ),
    }


def listed_arms(arms):
    return ", ".join(ARMS[arm] for arm in arms)


def _point(arm, checkpoint, step, evaluations, values):
    mean, low, high = _interval(values)
    return {
        "series": arm,
        "name": ARMS[arm],
        "checkpoint": checkpoint,
        "line": arm if arm == "baseline" else f"{arm} {checkpoint}",
        "steps": step,
        "evaluations": round(evaluations),
        "value": mean,
        "low": low,
        "high": high,
        "spread": f"{low:.4f} to {high:.4f}" if high > low else "one model",
    }


def _interval(values):
    """(mean, low, high) by Student's t; of one value, that value three times."""
    mean, low, high = (float(each) for each in statistics.student(np.asarray(values)))
    return (mean, low, high) if low == low else (mean, mean, mean)
