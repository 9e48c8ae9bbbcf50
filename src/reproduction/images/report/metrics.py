"""The metrics of one scale, as its settings name them: files that no setting names are never opened."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlegfn.errors import UserError
from reproduction.drawing.inputs import contents

# What the sample-quality files of a scale must agree on, or their numbers cannot stand in one table.
QUALITY_EQUAL = ("images", "projections", "patch", "patches_per_image", "levels", "timesteps", "why")


class Point(NamedTuple):
    """The NLL of one model: ``step`` since the start of training, ``finetune_step`` since the checkpoint."""

    step: int
    finetune_step: int
    bits_per_dim: float
    standard_error: float | None  # over images
    clipped: float
    train: float | None
    per_image: np.ndarray  # [I], bits/dim, unclipped
    estimator_error: float = (
        0.0  # standard error against the full sum over t, which the images' holds already
    )


class Metrics:
    """What figures, tables and verdicts are made of.

    :ivar baseline: ``{(step, seed): Point}``
    :ivar runs: ``{(checkpoint, arm, seed): {finetune_step: Point}}``; the seed is that of pretraining, too
    :ivar evaluations: ``{(checkpoint, arm, seed): {"forward": n, "backward": n, "steps": n}}`` of a whole run
    :ivar clipped: the same keys: the share of its steps whose gradient was clipped
    :ivar log_p: ``{(arm or "baseline", seed): fields}`` of log p at the last checkpoint (images.measuring.log_p)
    :ivar choices: ``{arm: choice.json}``: the settings that were tried on validation images, and the chosen ones
    :ivar about: levels, dims, images, timesteps, decoder, variance, estimator and its network evaluations an image,
        of every NLL of the scale
    """

    def __init__(self, name, settings, arms, root="results"):
        """Read them; a missing, broken or misfitting file is a UserError that says what makes it.

        :param name: of the scale
        :param settings: its block ``images.settings.Images``
        :param arms: the fine-tuning arms that it has, in order
        :param root: the folder of all scales
        """
        self.name, self.settings, self.arms = name, settings, list(arms)
        self._folder = Path(root) / name / "images" / "metrics"
        self._first = self.about = None
        self.curves = {}  # what comparison.curve has put together, for the next time
        self.runs, self.evaluations, self.clipped, self.log_p = {}, {}, {}, {}
        self.baseline = {
            (step, seed): self._points(f"nll/baseline/{step}-{seed}.json", "baseline", [0], seed)[0]
            for step in settings.pretrain.segments
            for seed in self.seeds
        }
        self.choices = {
            arm: self._read(f"finetune/{arm}/choice.json", f"finetune@{name}-{arm}", "chosen", "tried")
            for arm in self.arms
        }
        for checkpoint in self.checkpoints:
            for arm in self.arms:
                for seed in self.seeds:
                    self._run(checkpoint, arm, seed)

    @property
    def checkpoints(self):
        return self.settings.pretrain.checkpoints

    @property
    def seeds(self):
        return self.settings.pretrain.seeds

    @property
    def baseline_steps(self):
        """Where the baselines were saved."""
        return self.settings.pretrain.segments

    @property
    def steps(self):
        """The fine-tuning steps at which every run was measured."""
        return self.settings.finetune.all.evaluate_at

    @property
    def data(self):
        """What the images are, in a word: ``digits``, ``cifar10`` or the archive's name."""
        data = self.settings.data
        return data.source if data.path is None else Path(data.path).name.split(".")[0]

    def baseline_per_image(self, step):
        """Bits/dim [seeds, images]."""
        return np.stack([self.baseline[step, seed].per_image for seed in self.seeds])

    def per_image(self, checkpoint, arm, finetune_step):
        """Bits/dim [seeds, images]."""
        return np.stack([self.runs[checkpoint, arm, s][finetune_step].per_image for s in self.seeds])

    def spent(self, checkpoint, arm, finetune_step):
        """Network evaluations (forward + backward, mean over seeds) of fine-tuning up to this step."""
        runs = [self.evaluations[checkpoint, arm, s] for s in self.seeds]
        return float(np.mean([(r["forward"] + r["backward"]) / r["steps"] for r in runs])) * finetune_step

    @property
    def baseline_cost(self):
        """Network evaluations of one step of the baseline: a forward and a backward an image."""
        return 2 * self.settings.pretrain.batch

    def quality(self):
        """``{run: contents}`` of the sample-quality files, the baseline's first. Only the tables ask for them.

        A missing or misfitting file is a UserError that says what makes it.
        """
        contents_of, runs = {}, ["baseline", *self.arms]
        for run in runs:
            file, stage = f"quality/{run}.json", f"quality@{self.name}"
            contents_of[run] = self._read(
                file, stage, "step", "sliced_wasserstein", "fid", "floor", *QUALITY_EQUAL
            )
            if odd := [key for key in QUALITY_EQUAL if contents_of[run][key] != contents_of[runs[0]][key]]:
                raise UserError(
                    f"{self._folder / file}: its {odd[0]} is {contents_of[run][odd[0]]}, in quality/{runs[0]}.json it "
                    f"is {contents_of[runs[0]][odd[0]]}; run `dvc repro {stage}`"
                )
        return contents_of

    def _run(self, checkpoint, arm, seed):
        run = f"{arm}/{checkpoint}-{seed}"
        self.runs[checkpoint, arm, seed] = self._points(f"nll/{run}.json", arm, self.steps, seed)
        log = self._read(
            f"finetune/{run}.json",
            f"finetune@{self.name}-{arm}",
            "network_evaluations",
            "steps",
            "clipped_share",
        )
        self.evaluations[checkpoint, arm, seed] = {**log["network_evaluations"], "steps": log["steps"]}
        self.clipped[checkpoint, arm, seed] = log["clipped_share"]

    def _points(self, file, arm, steps, seed):
        stage = f"baseline_nll@{self.name}" if arm == "baseline" else f"nll@{self.name}-{arm}"
        value = self._read(
            file, stage, "points", "levels", "dims", "images", "timesteps", "decoder", "variance"
        )
        about = {key: value[key] for key in ("levels", "dims", "images", "timesteps", "decoder", "variance")}
        about["estimator"] = value.get("estimator", "full")  # before there were two, there was no name
        about["evaluations"] = value.get("network_evaluations_per_image", value["timesteps"])
        self.about, self._first = self.about or about, self._first or self._folder / file
        if about != self.about:
            key = next(key for key in about if about[key] != self.about[key])
            raise UserError(
                f"{self._folder / file}: its {key} is {about[key]}, in {self._first} it is {self.about[key]}; "
                f"run `dvc repro {stage}`"
            )
        if Path(file).stem == f"{self.checkpoints[-1]}-{seed}":
            self.log_p[arm, seed] = self._log_p(file, stage, value)
        try:
            points = {point["finetune_step"]: _point(point) for point in value["points"]}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._folder / file}: a point is not as it should be ({error}); "
                f"delete it and run `dvc repro {stage}`"
            ) from None
        if absent := [step for step in steps if step not in points]:
            raise UserError(
                f"{self._folder / file}: no point at fine-tuning step {absent[0]}; run `dvc repro {stage}`"
            )
        if bad := [p for p in points.values() if p.per_image.shape != (about["images"],)]:
            raise UserError(
                f"{self._folder / file}: {len(bad[0].per_image)} values for {about['images']} images; "
                f"delete it and run `dvc repro {stage}`"
            )
        return points

    def _log_p(self, file, stage, value):
        """The fields of log p in a file's contents; a UserError where they are missing."""
        if not value.get("log_p"):
            raise UserError(f"{self._folder / file}: has no 'log_p'; delete it and run `dvc repro {stage}`")
        return value["log_p"]

    def _read(self, file, stage, *keys):
        return contents(self._folder / file, stage, *keys)


def _point(value):
    return Point(
        value["step"],
        value["finetune_step"],
        value["bits_per_dim"],
        value["standard_error"],
        value["bits_per_dim_clipped"],
        value.get("train_bits_per_dim"),
        np.asarray(value["per_image"], dtype=np.float64),
        value.get("estimator_standard_error") or 0.0,
    )
