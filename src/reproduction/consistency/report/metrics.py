"""The metrics of one scale's consistency experiment, as its settings name them."""

from pathlib import Path

import numpy as np

from mlegfn.errors import UserError
from reproduction.consistency.arms import arms_of
from reproduction.consistency.report.policy_metrics import NoisingMetrics, PolicyMetrics
from reproduction.drawing.inputs import contents
from reproduction.verdicts.evidence import over_seeds
from reproduction.verdicts.statistics import LEVEL

__all__ = ["QUANTITIES", "Metrics"]

KEYS = ("runs", "optima", "points", "timesteps", "trajectories")
QUANTITIES = ("nll", "elbo_nll", "log_w_variance", "log_w_third_cumulant")
LEVELS = ("nll", "nll_standard_error", "elbo_nll", "log_w_variance")
PULLS = ("bound_squared", "bound_variance", "variance_squared")


class Metrics:
    """What figure, tables and verdicts of a scale are made of.

    :ivar arms: ``{name: Arm}`` in the settings' order
    :ivar signed: ``{problem: the contents of its file}``
    :ivar policy: ``PolicyMetrics`` of the second part
    :ivar noising: ``NoisingMetrics`` of the third part
    """

    def __init__(self, name, settings, problems, root="results", policies=(), noisings=()):
        """Read them; a missing, broken or misfitting file is a UserError that says what makes it.

        :param name: the scale
        :param settings: :class:`reproduction.consistency.settings.Consistency`
        :param root: the folder of all scales
        :param policies: the problems of the second part
        :param noisings: the problems of the third part
        """
        self.name, self.settings, self.arms = name, settings, arms_of(settings)
        self._folder = Path(root, name, "consistency", "metrics", "signed")
        self.signed = {problem: self._read(problem) for problem in problems}
        self.policy = PolicyMetrics(name, settings.policy, policies, root)
        self.noising = NoisingMetrics(name, settings.noising, noisings, root)

    @property
    def problems(self):
        return list(self.signed)

    def level(self, problem, arm, metric):
        """``metric`` of an arm for each seed, in the settings' order, as an array [S]."""
        return np.array([run[metric] for run in self._runs(problem, arm)], dtype=np.float64)

    def change(self, problem, arm, metric, part="value"):
        """``metric`` of an arm minus that of λ = 0 of the same seed, for each seed, as an array [S].

        :param part: ``value``, or ``standard_error`` over test points
        """
        return np.array(
            [run["differences"][metric][part] for run in self._runs(problem, arm)], dtype=np.float64
        )

    def pull(self, problem, checkpoint, name, part="value"):
        """A product of gradients at ``pretrained`` or ``optimum`` for each seed, as an array [S]."""
        optima = {entry["seed"]: entry["pull"] for entry in self.signed[problem]["optima"]}
        return np.array([optima[seed][checkpoint][name][part] for seed in self.settings.seeds])

    def curves(self, problem):
        """The record of the bound's training for each seed."""
        optima = {entry["seed"]: entry["curve"] for entry in self.signed[problem]["optima"]}
        return [optima[seed] for seed in self.settings.seeds]

    def fit(self, arms, metric="nll", against="log_w_variance", level=LEVEL):
        """The slope of the changes of ``metric`` against those of another, through the origin, over all problems.

        Least squares for each seed; the interval is over seeds, and None with one seed.
        """
        slopes = []
        for seed in range(len(self.settings.seeds)):
            x, y = (
                np.array([self.change(problem, arm, key)[seed] for problem in self.signed for arm in arms])
                for key in (against, metric)
            )
            slopes.append(float(x @ y / (x @ x)))
        interval = over_seeds(np.array(slopes), 0.0, level)
        return interval if len(slopes) > 1 else interval._replace(low=None, high=None)

    def producer(self, problem):
        """The name of the stage that makes a problem's metrics."""
        return f"signed@{self.name}-{problem}"

    def _runs(self, problem, arm):
        runs = {run["seed"]: run for run in self.signed[problem]["runs"] if run["arm"] == arm}
        return [runs[seed] for seed in self.settings.seeds]

    def _read(self, problem):
        path, stage = self._folder / f"{problem}.json", self.producer(problem)
        value = contents(path, stage, *KEYS)
        try:
            numbers = [value["points"], value["timesteps"], value["trajectories"]]
            for run in value["runs"]:
                numbers += [run[key] for key in LEVELS]
                numbers += [x for name in QUANTITIES for x in run["differences"][name].values()]
            for entry in value["optima"]:
                numbers += [point["elbo_nll"] for point in entry["curve"]]
                numbers += [
                    x for pull in entry["pull"].values() for name in PULLS for x in pull[name].values()
                ]
            have = {(run["arm"], run["seed"]) for run in value["runs"]}
            have |= {("optimum", entry["seed"]) for entry in value["optima"]}
        except (AttributeError, KeyError, TypeError):
            numbers, have = [None], set()
        if not all(isinstance(x, (int, float)) and abs(x) < float("inf") for x in numbers):
            raise UserError(
                f"{path}: holds something else than numbers; delete it and run `dvc repro {stage}`"
            )
        for seed in self.settings.seeds:
            for arm in (*self.arms, "optimum"):
                if (arm, seed) not in have:
                    raise UserError(f"{path}: no {arm} with seed {seed}; run `dvc repro {stage}`")
        return value
