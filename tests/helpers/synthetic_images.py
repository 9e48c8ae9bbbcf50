"""Metrics of a scale of images that was never run, made up so that tests know what must come out of them."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from helpers.image_stages import image_settings
from safetensors.numpy import save_file

from reproduction.images.report.metrics import Metrics

ARMS = ("simple", "simple_tbc", "reweighted", "vlb", "vlb_tbc")
SHIFTS = {"simple": 0.0, "simple_tbc": -0.01, "reweighted": -0.004, "vlb": -0.006, "vlb_tbc": -0.012}
GAINS = {"baseline": -2.0, "simple": 0.0, "simple_tbc": 0.8, "reweighted": 0.3, "vlb": 0.4, "vlb_tbc": 1.0}
EFFECTS = {
    "shifts": SHIFTS,
    "gains": GAINS,
    "fall": 0.02,
    "noise": 0.0005,
    "between": 0.02,
    "cost": 1,
    "clipped": 0.0,
    "quality": 0.3,
    "draw": 7,
}
ABOUT = {
    "levels": 17,
    "dims": 64,
    "timesteps": 50,
    "decoder": "exact",
    "variance": "analytic",
    "estimator": "full",
    "network_evaluations_per_image": 50,
}
TERMS = np.exp(-np.arange(51) / 8) / np.exp(-np.arange(51) / 8).sum()  # the share of each term of the bound


def settings(checkpoints=(300, 600, 900, 1200, 1500), stop=1800, seeds=(0, 1, 2), evaluate_at=(10, 20, 40)):
    """The settings of `digits` with what the report depends on replaced."""
    return image_settings(
        "digits",
        pretrain__checkpoints=list(checkpoints),
        pretrain__stop=stop,
        pretrain__seeds=list(seeds),
        pretrain__batch=64,
        finetune__all__batch=64,
        finetune__all__evaluate_at=list(evaluate_at),
        finetune__all__search={"checkpoint": checkpoints[-1], "seed": seeds[0]},
        trajectories__checkpoint=checkpoints[-1],
        trajectories__pretrain_seed=seeds[0],
    )


def write_json(path, value):
    """As artifacts.write_json, without the waits for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write(settings, root, name="digits", arms=ARMS, images=60, **effects):
    """Write every metrics file that ``settings`` name under ``root/name/images`` and return them as Metrics.

    effects, each with its default in EFFECTS:

    shifts: bits/dim that each arm differs from `simple` by at the last step (linear in the step); a value may be a
        function of the checkpoint
    gains: nats by which log p of each model at the last checkpoint lies above that of `simple`
    fall: bits/dim by which `simple` lies below the checkpoint it came from, at the last step
    noise: the standard deviation of a seed's and of an image's difference to `simple`
    between: the standard deviation of the baselines of several seeds, which their fine-tunes share
    cost: network evaluations of `simple_tbc` in those of the other arms
    clipped: the share of steps whose gradient was clipped, of every fine-tune
    quality: every model's sliced Wasserstein distance on pixels; the floor's is 0.2
    draw: the seed of all that is random
    """
    made = Made(settings, Path(root) / name / "images" / "metrics", name, images, {**EFFECTS, **effects})
    for seed in settings.pretrain.seeds:
        made.baseline(seed)
        for arm in arms:
            for checkpoint in settings.pretrain.checkpoints:
                made.finetune(checkpoint, arm, seed)
    for arm in arms:
        made.choice(arm)
    for model in ("baseline", *arms):
        made.quality(model)
    return Metrics(name, settings, arms, root)


class Made:
    """What the files of one scale are made of, and the folder that they go to."""

    def __init__(self, settings, folder, name, images, effects):
        self.settings, self.folder, self.name, self.images = settings, folder, name, images
        self.effects = SimpleNamespace(**effects)
        self.draw = np.random.default_rng(effects["draw"])
        self.image = self.draw.normal(0, 0.3, images)  # how hard each image is, for every model
        self.baselines, self.log_p = {}, {}

    def baseline(self, seed):
        """A baseline at every step where it was saved, with its pretraining's cost."""
        steps = self.settings.pretrain.segments
        offset = self.effects.between * self.draw.normal(size=self.images)
        offset += self.effects.between * self.draw.normal()
        self.log_p[seed] = -140 - 20 * (self.image + offset)[: self.settings.nll.log_p.images]
        for step in steps:
            values = 2.55 + 0.9 * np.exp(-step / steps[1] / 1.4) + self.image + offset
            self.baselines[step, seed] = values
            self.nll("baseline", step, seed, [self.point(step, 0, values)])
            each = step * self.settings.pretrain.batch
            write_json(
                self.folder / "pretrain" / f"{step}-{seed}.json",
                {"step": step, "seed": seed, "parameters": 1234, **evaluations(each)},
            )

    def finetune(self, checkpoint, arm, seed):
        """One fine-tune at every point where it was measured, with its cost."""
        effects, every = self.effects, self.settings.finetune.all
        shift = effects.shifts[arm]
        shift = shift(checkpoint) if callable(shift) else shift
        own = effects.noise * self.draw.normal() if arm != "simple" else 0.0
        jitter, points = effects.noise * self.draw.normal(size=self.images), []
        for n in every.evaluate_at:
            share = n / every.evaluate_at[-1]
            drop = effects.fall * (1 - np.exp(-3 * share)) / (1 - np.exp(-3))
            values = self.baselines[checkpoint, seed] - drop + share * (shift + own + jitter)
            points.append(self.point(checkpoint + n, n, values))
        self.nll(arm, checkpoint, seed, points)
        each = every.evaluate_at[-1] * every.batch * (effects.cost if arm == "simple_tbc" else 1)
        write_json(
            self.folder / "finetune" / arm / f"{checkpoint}-{seed}.json",
            {
                "scale": self.name,
                "checkpoint": checkpoint,
                "arm": arm,
                "seed": seed,
                "steps": every.evaluate_at[-1],
                "clipped_share": effects.clipped,
                **evaluations(each),
                "log": [],
            },
        )

    def nll(self, model, checkpoint, seed, points):
        """The file of one run; that of the last checkpoint has log p, too."""
        last = checkpoint == self.settings.pretrain.checkpoints[-1]
        write_json(
            self.folder / "nll" / model / f"{checkpoint}-{seed}.json",
            {
                **ABOUT,
                "scale": self.name,
                "images": self.images,
                "checkpoint": checkpoint,
                "arm": model,
                "seed": seed,
                "points": points,
                "log_p": self.log_p_of(model, seed) if last else None,
            },
        )

    def point(self, step, finetune_step, values):
        """One measured model; ``values``: bits/dim of each image."""
        return {
            "step": step,
            "finetune_step": finetune_step,
            "bits_per_dim": float(values.mean()),
            "standard_error": float(values.std(ddof=1) / np.sqrt(self.images)),
            "estimator_standard_error": 0.0,
            "bits_per_dim_clipped": float(values.mean() - 0.01),
            "per_image": values.tolist(),
            "terms": (values.mean() * TERMS).tolist(),
        }

    def log_p_of(self, model, seed):
        """The fields of log p: 2 nats above the bound; half of the trajectories give 0.5 nats less."""
        values = self.log_p[seed] + self.effects.gains[model]
        values = values + self.effects.noise * self.draw.normal(size=values.shape)
        return {
            "images": len(values),
            "trajectories": self.settings.nll.log_p.trajectories,
            "log_p": float(values.mean()),
            "log_p_half": float(values.mean() - 0.5),
            "standard_error": 0.1,
            "bias": 0.2,
            "elbo": float(values.mean() - 2),
            "variance": 4.0,
            "per_image": {
                "log_p": values.tolist(),
                "elbo": (values - 2).tolist(),
                "variance": [4.0] * len(values),
            },
        }

    def choice(self, arm):
        """What an arm tried: its first combination is the best, and each after it is 0.001 bits/dim worse."""
        tried = [
            {"trial": trial, "images": 180, "bits_per_dim": 2.4 + k / 1000, "clipped_share": k / 100}
            for k, trial in enumerate(getattr(self.settings.finetune, arm).trials())
        ]
        where = self.settings.finetune.all.search.model_dump()
        write_json(
            self.folder / "finetune" / arm / "choice.json",
            {"scale": self.name, "arm": arm, **where, "chosen": tried[0]["trial"], "tried": tried},
        )

    def quality(self, model):
        """The sample quality of a model of the checkpoint that Figure 3 shows."""
        shown, distance = self.settings.trajectories, self.effects.quality
        tuned = self.settings.finetune.all.evaluate_at[-1] if model != "baseline" else 0
        why = "not measured: quality.inception in params.yaml names no weights file"
        floor = {
            "pixels": {"mean": 0.2, "standard_deviation": 0.01},
            "patches": {"mean": 0.1, "standard_deviation": 0.005},
        }
        write_json(
            self.folder / "quality" / f"{model}.json",
            {
                "scale": self.name,
                "checkpoint": shown.checkpoint,
                "arm": model,
                "seed": shown.pretrain_seed,
                "step": shown.checkpoint + tuned,
                "finetune_step": tuned,
                "levels": ABOUT["levels"],
                "timesteps": ABOUT["timesteps"],
                "images": self.images,
                "projections": 500,
                "patch": 4,
                "patches_per_image": 8,
                "sliced_wasserstein": {"pixels": distance, "patches": distance / 2},
                "fid": None,
                "inception_score": None,
                "why": why,
                "floor": {"draws": 10, "sliced_wasserstein": floor, "fid": None, "inception_score": None},
            },
        )


def evaluations(each):
    """The field of metrics: as many forward as backward passes."""
    return {"network_evaluations": {"forward": each, "backward": each}}


def write_samples(settings, root, name="digits", channels=1, side=8):
    """Write trajectories and samples that look like something: blobs that emerge from noise."""
    generator = np.random.default_rng(3)
    folder = Path(root) / name / "images" / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    shown, columns, m = (getattr(settings.trajectories, key) for key in ("shown", "columns", "samples"))
    y, x = np.mgrid[:side, :side] / (side - 1) - 0.5
    angle = generator.uniform(0, np.pi, (m, channels, 1, 1))
    image = 2 * np.exp(-((x * np.cos(angle) + y * np.sin(angle)) ** 2) * 30) - 1
    noise = generator.normal(size=(shown, channels, side, side))
    share = np.linspace(1, 0, columns)[:, None, None, None, None]
    save_file(
        {
            "trajectories": (np.sqrt(1 - share**2) * image[:shown] + share * noise).astype(np.float32),
            "times": np.linspace(50, 0, columns).round().astype(np.int64),
            "samples": ((image + 1) * 8).round().astype(np.uint8),
            "data": ((image + 1) * 8).round().astype(np.uint8),
        },
        folder / "trajectories.safetensors",
    )
