"""The metrics of the parts *which policy* and *learned noising* of one scale, as its settings name them."""

from pathlib import Path

import numpy as np

from mlegfn.errors import UserError
from reproduction.drawing.inputs import contents

__all__ = ["NoisingMetrics", "PolicyMetrics"]

LEVELS = ("nll", "nll_standard_error", "nll_half", "elbo_nll", "log_w_variance")
QUANTITIES = ("nll", "elbo_nll", "log_w_variance")


class PolicyMetrics:
    """What figure, table and verdicts of *which policy* are made of.

    :cvar part: the name of the stage and of its folder
    :cvar keys: what a problem's file has to hold
    :cvar levels: the numbers of every run
    :ivar arms: the names of the arms in the settings' order
    :ivar problems: ``{problem: the contents of its file}``; none where the scale has no such runs
    """

    part = "policy"
    keys = ("runs", "entropy", "points", "mmd_floor")
    levels = (*LEVELS, "mmd", "rank_correlation")

    def __init__(self, name, settings, problems, root="results"):
        """Read them; a missing, broken or misfitting file is a UserError that says what makes it.

        :param name: the scale
        :param settings: the part's block of the scale, or None for a scale without it
        :param root: the folder of all scales
        """
        self.name, self.settings, self.arms = name, settings, settings.arms if settings else []
        self._folder = Path(root, name, "consistency", "metrics", self.part)
        self.problems = {problem: self._read(problem) for problem in problems}

    def level(self, problem, arm, metric):
        """``metric`` of an arm for each seed, in the settings' order, as an array [S]."""
        return np.array([run[metric] for run in self.runs(problem, arm)], dtype=np.float64)

    def change(self, problem, arm, metric, part="value"):
        """``metric`` of an arm minus that of the reference of the same seed, for each seed, as an array [S].

        :param part: ``value``, or ``standard_error`` over test points
        """
        return np.array([run["differences"][metric][part] for run in self.runs(problem, arm)])

    def runs(self, problem, arm):
        """The runs of an arm, in the order of the settings' seeds."""
        runs = {run["seed"]: run for run in self.problems[problem]["runs"] if run["arm"] == arm}
        return [runs[seed] for seed in self.settings.seeds]

    def producer(self, problem):
        """The name of the stage that makes a problem's metrics."""
        return f"{self.part}@{self.name}-{problem}"

    @staticmethod
    def numbers(value):
        """What else of a problem's file has to be numbers."""
        spent = [run["evaluations"]["forward"] for run in value["runs"]]
        return [value["entropy"], value["mmd_floor"]["quantile_95"], *spent]

    def _read(self, problem):
        path, stage = self._folder / f"{problem}.json", self.producer(problem)
        value = contents(path, stage, *self.keys)
        try:
            numbers = [value["points"], *self.numbers(value)]
            for run in value["runs"]:
                numbers += [run[key] for key in self.levels]
                numbers += [x for name in QUANTITIES for x in run["differences"][name].values()]
            have = {(run["arm"], run["seed"]) for run in value["runs"]}
        except (AttributeError, KeyError, TypeError):
            numbers, have = [None], set()
        if not all(isinstance(x, (int, float)) and abs(x) < float("inf") for x in numbers):
            raise UserError(
                f"{path}: holds something else than numbers; delete it and run `dvc repro {stage}`"
            )
        for seed in self.settings.seeds:
            for arm in self.arms:
                if (arm, seed) not in have:
                    raise UserError(f"{path}: no {arm} with seed {seed}; run `dvc repro {stage}`")
        return value


class NoisingMetrics(PolicyMetrics):
    """What figure, table and verdicts of *learned noising* are made of."""

    part = "noising"
    keys = ("runs", "gradients", "points", "timesteps")
    levels = LEVELS

    @staticmethod
    def numbers(value):
        """What else of a problem's file has to be numbers."""
        gradients = [
            x for entry in value["gradients"] for products in entry.values() for x in products.values()
        ]
        ratios = [x for run in value["runs"] for row in run["log_snr"] for x in row]
        return [value["timesteps"], *gradients, *ratios]

    def gradient(self, problem, estimator, name):
        """``mean_square``, ``with_pathwise`` or ``trace`` of an estimator of P_B's gradient, for each seed: an array [S]."""
        return np.array([entry[estimator][name] for entry in self.problems[problem]["gradients"]])
