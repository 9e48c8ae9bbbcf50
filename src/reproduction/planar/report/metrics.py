"""The metrics of one scale's planar problems, as its settings name them."""

from pathlib import Path

import numpy as np

from mlegfn.errors import UserError
from reproduction.drawing.inputs import contents

__all__ = ["MODELS", "Metrics"]

# What the arms are called in metrics, figures and tables: plain DDPM is L_simple, trained on as long as the others.
MODELS = {"simple": "ddpm", "vlb": "vlb", "vlb_tbc": "mle_gfn"}
KEYS = ("runs", "mmd_floor", "points", "timesteps", "mmd_kernel", "trajectories")
# What each run of a problem is measured by.
NUMBERS = (
    "nll",
    "nll_standard_error",
    "nll_points_standard_error",
    "elbo_nll",
    "log_w_variance",
    "mmd",
    "seed",
)


class Metrics:
    """What figure, table and verdicts of a scale are made of.

    :ivar planar: ``{problem: the contents of its file}``
    """

    def __init__(self, name, settings, problems, root="results"):
        """Read them; a missing, broken or misfitting file is a UserError that says what makes it.

        :param name: the scale
        :param settings: :class:`reproduction.planar.settings.Planar`
        :param root: the folder of all scales
        """
        self.name, self.settings = name, settings
        self._folder = Path(root, name, "planar", "metrics")
        self.planar = {problem: self._read(problem) for problem in problems}

    @property
    def planar_models(self):
        """The models of every problem, as their files call them."""
        return [MODELS[arm] for arm in self.settings.arms]

    def values(self, problem, model, metric):
        """``metric`` of ``model`` for each seed of the settings, in their order, as an array [S]."""
        runs = {(run["model"], run["seed"]): run for run in self.planar[problem]["runs"]}
        return np.array([runs[model, seed][metric] for seed in self.settings.seeds], dtype=np.float64)

    def producer(self, problem):
        """The name of the stage that makes a problem's metrics and samples."""
        return f"planar@{self.name}-{problem}"

    def _read(self, problem):
        path, stage = self._folder / f"{problem}.json", self.producer(problem)
        value = contents(path, stage, *KEYS)
        try:
            have = {(run["model"], run["seed"]) for run in value["runs"]}
            numbers = [x for run in value["runs"] for key, x in run.items() if key in NUMBERS]
            numbers += [*value["mmd_floor"].values()]
            numbers += [value["points"], value["timesteps"], value["trajectories"]]
        except (AttributeError, KeyError, TypeError):
            numbers = [None]
        if not all(isinstance(x, (int, float)) and abs(x) < float("inf") for x in numbers):
            raise UserError(
                f"{path}: holds something else than numbers; delete it and run `dvc repro {stage}`"
            )
        for seed in self.settings.seeds:
            for model in self.planar_models:
                if (model, seed) not in have:
                    raise UserError(f"{path}: no run of {model} with seed {seed}; run `dvc repro {stage}`")
        return value
