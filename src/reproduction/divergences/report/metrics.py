"""What the stages `train`, `gradients` and `alpha` of a scale measured, and what the objectives are."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlegfn.errors import UserError
from reproduction.drawing.inputs import arrays, contents
from reproduction.verdicts import statistics
from reproduction.verdicts.evidence import normal
from reproduction.verdicts.statistics import Interval

KEYS = ("metric", "title", "about", "log_z", "batch", "steps", "floor", "runs")
CONTINUOUS = ("banana", "mixture")  # those of which densities can be drawn


class Objective(NamedTuple):
    """What an objective is called, and what it needs; mlegfn.gflownet.losses has the same of those in code."""

    title: str
    kind: str  # balance, divergence, or f: the balance whose on-policy gradient is a divergence's
    log_z: bool = False  # whether it learns log Z
    flows: str | None = None  # "state", "edge" or None
    on_policy: bool = False


OBJECTIVES = {
    "trajectory_balance": Objective("TB", "balance", log_z=True),
    "log_variance": Objective("log-variance", "balance"),
    "detailed_balance": Objective("DB", "balance", log_z=True, flows="state"),
    "sub_trajectory_balance": Objective("sub-TB", "balance", log_z=True, flows="state"),
    "flow_matching": Objective("FM", "balance", log_z=True, flows="edge"),
    "reverse_kl": Objective("reverse KL", "divergence", on_policy=True),
    "forward_kl": Objective("forward KL", "divergence", on_policy=True),
    "renyi": Objective("Rényi-α", "divergence", on_policy=True),
    "tsallis": Objective("Tsallis-α", "divergence", on_policy=True),
    "f_forward_kl": Objective("f-TB, forward KL", "f", log_z=True),
    "f_tsallis": Objective("f-TB, Tsallis-α", "f", log_z=True),
}
VARIATES = {
    "none": "none",
    "leave_one_out": "leave-one-out",
    "score": "score",
    "both": "both",
    "score_signed": "score, signed",
    "both_signed": "both, signed",
    "combined": "combined",
}


class Metrics:
    """The metrics of one scale's divergence experiments, as its settings name them.

    :ivar task_settings: {task: its block of the settings}
    :ivar tasks: {task: the contents of its file}, in the order of the settings
    :ivar gradients: {task: the contents of its file}, of the tasks whose gradients are measured
    :ivar alpha: the contents of alpha.json
    """

    def __init__(self, name, settings, root="results"):
        """Read them from <root>/<name>/divergences; a missing or misfitting file is a UserError that says what makes it.

        :param name: the scale
        :param settings: ``settings.Divergences``
        """
        self.name, self.folder = name, Path(root, name, "divergences")
        self.task_settings = settings.tasks.listed()
        folder = self.folder / "metrics"
        self.tasks = {
            task: self._task(folder / "tasks" / f"{task}.json", task, own)
            for task, own in self.task_settings.items()
        }
        self.gradients = {
            task: contents(
                *(folder / "gradients" / f"{task}.json", f"gradients@{name}"),
                *("title", "about", "repeats", "group", "trained_steps", "rows"),
            )
            for task in settings.gradients
        }
        self.alpha = contents(folder / "alpha.json", f"alpha@{name}", "title", "about", "box", "rows")

    def _task(self, path, task, own):
        stage = f"divergence@{self.name}-{task}"
        value = contents(path, stage, *KEYS, *(("box",) if task in CONTINUOUS else ()))
        runs = {(run["objective"], run["seed"]) for run in value["runs"]}
        for objective in own.objectives:
            for seed in own.seeds:
                if (objective, seed) not in runs:
                    raise UserError(
                        f"{path}: no run of {objective} with seed {seed}; run `dvc repro {stage}`"
                    )
        return value

    def runs(self, task, objective):
        """The runs of an objective on a task, in the order of the settings' seeds."""
        runs = {(run["objective"], run["seed"]): run for run in self.tasks[task]["runs"]}
        return [runs[objective, seed] for seed in self.task_settings[task].seeds]

    def has(self, task, objective):
        return task in self.tasks and objective in self.task_settings[task].objectives

    def several_seeds(self, task):
        return len(self.task_settings[task].seeds) > 1

    def values(self, task, objective, measure="final"):
        """float64 [S]: the exact metric after the last step, or its ``area``: the mean over training."""
        if measure == "area":
            return np.array([_area(**run["curve"]) for run in self.runs(task, objective)])
        return np.array([run["final"]["exact"] for run in self.runs(task, objective)])

    def difference(self, task, objective, reference, measure="final", level=statistics.LEVEL):
        """The interval of ``objective`` − ``reference``, paired by seed; there must be two seeds or more.

        Where the "exact" metric is an estimate, its error is the same points' for every seed, so that no mean over
        seeds makes it smaller: its half-width is joined in quadrature. Of two such errors the points are the same
        too, which makes the interval conservative.
        """
        own, other = (self.values(task, name, measure) for name in (objective, reference))
        errors = [
            max(run["final"]["exact_error"] for run in self.runs(task, name))
            for name in (objective, reference)
        ]
        halves = [
            statistics.half_width(own - other, level),
            normal(0.0, float(np.hypot(*errors)), level).high,
        ]
        mean, half = float((own - other).mean()), float(np.hypot(*halves))
        return Interval(mean, mean - half, mean + half, len(own))

    def best(self, task):
        """(the objective whose mean is lowest, those that cannot be told apart from it), the latter itself included;
        with one seed, the latter is empty."""
        names = self.task_settings[task].objectives
        best = min(names, key=lambda name: self.values(task, name).mean())
        if not self.several_seeds(task):
            return best, []
        return best, [name for name in names if name == best or self.difference(task, name, best).low <= 0]

    def densities(self, task):
        """{"target": [C, C], "nuts": [M, 2] of the banana, objective: [C, C]}: cell densities, first axis x_1."""
        keys = ["target", *(["nuts"] if task == "banana" else []), *self.task_settings[task].objectives]
        return arrays(
            self.folder / "densities" / f"{task}.safetensors", keys, f"divergence@{self.name}-{task}"
        )

    def alpha_densities(self):
        """{("target", None): [C, C], (objective, α or None): [C, C]}: the same of the effect of α."""
        file, stage = self.folder / "densities" / "alpha.safetensors", f"alpha@{self.name}"
        densities = {
            alpha_key(*name.split(":", 1)): array for name, array in arrays(file, ["target"], stage).items()
        }
        for row in self.alpha["rows"]:
            key = alpha_key(row["objective"], row["alpha"])
            if key not in densities:
                raise UserError(
                    f"{file}: no density of {row['objective']}, α = {row['alpha']}; run `dvc repro {stage}`"
                )
        return densities


def alpha_key(objective, alpha=None):
    """(objective, α as a number, or None where it has none)."""
    try:
        return objective, float(alpha)
    except (TypeError, ValueError):
        return objective, None


def _area(step, value):
    """The mean of a curve over its steps, by the trapezoidal rule."""
    return np.trapezoid(value, step) / (step[-1] - step[0])
