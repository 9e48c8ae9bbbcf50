"""Metrics of a scale of images that was never run, made up so that tests know what must come out of them."""

import json
from pathlib import Path

import numpy as np
from helpers.image_stages import image_settings
from safetensors.numpy import save_file

from reproduction.images.report.metrics import Metrics

ARMS = ("simple", "vlb", "tbc")
SHIFTS = {"simple": 0.0, "vlb": -0.004, "tbc": -0.01}


def settings(checkpoints=(300, 600, 900, 1200, 1500), stop=1800, seeds=(0, 1, 2), evaluate_at=(10, 20, 40)):
    """The settings of `digits` with what the report depends on replaced."""
    return image_settings(
        "digits",
        pretrain__checkpoints=list(checkpoints),
        pretrain__stop=stop,
        finetune__all__seeds=list(seeds),
        finetune__all__evaluate_at=list(evaluate_at),
        trajectories__checkpoint=checkpoints[-1],
        trajectories__finetune_seed=seeds[0],
    )


def write_json(path, value):
    """As artifacts.write_json, without the waits for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write(
    settings,
    root,
    name="digits",
    arms=ARMS,
    images=60,
    shifts=SHIFTS,
    fall=0.02,
    noise=0.0005,
    cost=10,
    quality=0.3,
):
    """Write every metrics file that ``settings`` name under ``root/name/images`` and return them as Metrics.

    :param shifts: bits/dim that each arm differs from `simple` by at the last step (linear in the step); a
        value may be a function of the checkpoint
    :param fall: bits/dim by which `simple` lies below the checkpoint it came from, at the last step
    :param noise: the standard deviation of a seed's and of an image's difference
    :param cost: network evaluations of `tbc` in those of the other arms
    :param quality: every model's sliced Wasserstein distance on pixels; the floor's is 0.2
    """
    generator = np.random.default_rng(7)
    folder = Path(root) / name / "images" / "metrics"
    image = generator.normal(0, 0.3, images)  # how hard each image is, for every model
    about = {
        "scale": name,
        "levels": 17,
        "dims": 64,
        "images": images,
        "timesteps": 50,
        "decoder": "exact",
        "variance": "analytic",
        "network_evaluations_per_image": 50,
    }

    def point(step, finetune_step, values):
        return {
            "step": step,
            "finetune_step": finetune_step,
            "bits_per_dim": float(values.mean()),
            "standard_error": float(values.std(ddof=1) / np.sqrt(images)),
            "bits_per_dim_clipped": float(values.mean() - 0.01),
            "per_image": values.tolist(),
            "terms": [0.0] * 51,
        }

    baseline = {}
    for step in settings.pretrain.segments:
        baseline[step] = 2.55 + 0.9 * np.exp(-step / settings.pretrain.segments[1] / 1.4) + image
        write_json(
            folder / "nll" / "baseline" / f"{step}.json",
            {
                **about,
                "checkpoint": step,
                "arm": "baseline",
                "seed": None,
                "points": [point(step, 0, baseline[step])],
            },
        )
    steps = settings.finetune.all.evaluate_at[-1]
    for checkpoint in settings.pretrain.checkpoints:
        for seed in settings.finetune.all.seeds:
            for arm in arms:
                shift = shifts[arm](checkpoint) if callable(shifts[arm]) else shifts[arm]
                own = noise * generator.normal() if arm != "simple" else 0.0
                jitter = noise * generator.normal(size=images)
                points = []
                for n in settings.finetune.all.evaluate_at:
                    share = n / steps
                    drop = fall * (1 - np.exp(-3 * share)) / (1 - np.exp(-3))
                    values = baseline[checkpoint] - drop + share * (shift + own) + share * jitter
                    points.append(point(checkpoint + n, n, values))
                run = f"{checkpoint}-{seed}.json"
                write_json(
                    folder / "nll" / arm / run,
                    {**about, "checkpoint": checkpoint, "arm": arm, "seed": seed, "points": points},
                )
                each = steps * settings.finetune.all.batch * (cost if arm == "tbc" else 1)
                write_json(
                    folder / "finetune" / arm / run,
                    {
                        "scale": name,
                        "checkpoint": checkpoint,
                        "arm": arm,
                        "seed": seed,
                        "steps": steps,
                        "network_evaluations": {"forward": each, "backward": each},
                        "images_seen": steps * settings.finetune.all.batch,
                        "lambda": 0.001,
                        "log": [],
                    },
                )
    shown = settings.trajectories
    for arm in ("baseline", *arms):
        tuned = arm != "baseline"
        run = f"{shown.checkpoint}-{arm}-{shown.finetune_seed}" if tuned else f"baseline-{shown.checkpoint}"
        write_json(
            folder / "quality" / f"{run}.json",
            {
                "scale": name,
                "checkpoint": shown.checkpoint,
                "arm": arm,
                "seed": shown.finetune_seed if tuned else None,
                "step": shown.checkpoint + (steps if tuned else 0),
                "finetune_step": steps if tuned else 0,
                "levels": 17,
                "timesteps": 50,
                "images": images,
                "projections": 500,
                "patch": 4,
                "patches_per_image": 8,
                "sliced_wasserstein": {"pixels": quality, "patches": quality / 2},
                "fid": None,
                "inception_score": None,
                "why": "not measured: quality.inception in params.yaml names no weights file",
                "floor": {
                    "draws": 10,
                    "sliced_wasserstein": {
                        "pixels": {"mean": 0.2, "standard_deviation": 0.01},
                        "patches": {"mean": 0.1, "standard_deviation": 0.005},
                    },
                    "fid": None,
                    "inception_score": None,
                },
            },
        )
    return Metrics(name, settings, arms, root)


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
