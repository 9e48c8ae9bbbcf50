"""The metrics of one scale's planar problems as bits, as its settings name them."""

from pathlib import Path

from mlegfn.errors import UserError
from reproduction.drawing.inputs import contents

__all__ = ["ARMS", "Metrics"]

ARMS = {
    "random": "random P_B",
    "random_tbc": "random P_B + TBC",
    "learned": "learned P_B",
    "learned_tbc": "learned P_B + TBC",
    "ordered": "ordered P_B",
}
KEYS = ("entropy", "points", "runs", "mmd_floor", "mmd_points", "mmd_kernel")


class Metrics:
    """What table, figure and verdicts of a scale are made of.

    :ivar bits: {problem: the contents of its file}
    """

    def __init__(self, name, settings, problems, root="results"):
        """Read them; a missing or misfitting file is a UserError that says what makes it.

        :param name: the scale
        :param settings: :class:`reproduction.bits.settings.Bits`
        :param root: the folder of all scales
        """
        self.name, self.settings, self.arms, self.bits = name, settings, settings.arms, {}
        for problem in problems:
            path, stage = Path(root, name, "bits", "metrics", f"{problem}.json"), self.producer(problem)
            value = self.bits[problem] = contents(path, stage, *KEYS)
            have = {(run["model"], run["seed"]) for run in value["runs"]}
            for arm in settings.arms:
                for seed in settings.seeds:
                    if (arm, seed) not in have:
                        raise UserError(f"{path}: no run of {arm} with seed {seed}; run `dvc repro {stage}`")

    def runs(self, problem, arm):
        """The runs of an arm, in the order of the settings' seeds."""
        runs = {(run["model"], run["seed"]): run for run in self.bits[problem]["runs"]}
        return [runs[arm, seed] for seed in self.settings.seeds]

    def producer(self, problem):
        """The name of the stage that makes a problem's metrics and samples."""
        return f"bits@{self.name}-{problem}"
