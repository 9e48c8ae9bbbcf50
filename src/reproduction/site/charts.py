"""The interactive charts: their rows, their series for the check boxes, their menu, and what they show in words."""

import numpy as np

from reproduction.divergences.report.metrics import OBJECTIVES
from reproduction.site import artifacts
from reproduction.site.vegalite import specification
from reproduction.verdicts import statistics

__all__ = ["curves", "nll", "terms"]

ARMS = {"baseline": "DDPM baseline", "simple": "L_simple", "vlb": "L_vlb", "tbc": "MLE-GFN"}


def nll(scale):
    """Test NLL along training, the baseline and every arm from every checkpoint, against steps or evaluations."""
    baseline = {
        int(row["step"]): row for row in artifacts.rows(scale, "images", "nll") if row["arm"] == "baseline"
    }
    costs = {step: artifacts.training_cost(scale, step) for step in baseline}
    nlls = {step: float(row["bits_per_dim"]) for step, row in baseline.items()}
    points = [_point("baseline", step, step, costs[step], [nlls[step]]) for step in baseline]
    runs = {}  # {(checkpoint, arm): {fine-tuning step: rows, one a seed}}
    for row in artifacts.rows(scale, "images", "paired"):
        run = runs.setdefault((int(row["checkpoint"]), row["arm"]), {})
        run.setdefault(int(row["finetune_step"]), []).append(row)
    for (checkpoint, arm), steps in runs.items():
        points.append(_point(arm, checkpoint, checkpoint, costs[checkpoint], [nlls[checkpoint]]))
        for step, seeds in steps.items():
            spent = np.mean([float(row["evaluations"]) for row in seeds])
            values = [float(row["bits_per_dim"]) for row in seeds]
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
            f"{next(iter(baseline.values()))['images']} test images; the table below has every value."
        ),
    }


def terms(scale):
    """What fine-tuning from a checkpoint changes in each term of the bound, after its last step."""
    runs = {}  # {(checkpoint, arm): {seed: last fine-tuning step}}
    for row in artifacts.rows(scale, "images", "paired"):
        runs.setdefault((int(row["checkpoint"]), row["arm"]), {})[row["seed"]] = int(row["finetune_step"])
    checkpoints, arms = (list(dict.fromkeys(key[k] for key in runs)) for k in (0, 1))
    starts = {step: np.array(artifacts.nll_terms(scale, "baseline", step, 0)) for step in checkpoints}
    rows = []
    for (checkpoint, arm), seeds in runs.items():
        ends = [artifacts.nll_terms(scale, arm, f"{checkpoint}-{seed}", step) for seed, step in seeds.items()]
        for t, values in enumerate((np.array(ends) - starts[checkpoint]).T):
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


def _listed(arms):
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
    mean, low, high = (float(bound) for bound in statistics.student(np.asarray(values)))
    return (mean, low, high) if low == low else (mean, mean, mean)
