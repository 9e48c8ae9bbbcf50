"""Metrics of a scale that was never run, made up so that tests know what must come out of them."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mlegfn import config
from mlegfn.report.metrics import Metrics

PARAMS = Path(__file__).parents[1] / "params.yaml"
PROBLEMS = ["2spirals", "8gaussians", "pinwheel", "circles", "moons", "swissroll", "checkerboard"]
SHIFTS = {"simple": 0.0, "vlb": -0.004, "tbc": -0.01}


def scale(
    checkpoints=(300, 600, 900, 1200, 1500),
    stop=1800,
    seeds=(0, 1, 2),
    evaluate_at=(10, 20, 40),
    arms=("simple", "vlb", "tbc"),
    problems=PROBLEMS,
    planar_arms=("simple", "vlb", "tbc"),
):
    """The settings of `digits` with what the report depends on replaced."""
    base = config.load(PARAMS).scales["digits"]
    return base.model_copy(
        update={
            "pretrain": base.pretrain.model_copy(update={"checkpoints": list(checkpoints), "stop": stop}),
            "finetune": base.finetune.model_copy(
                update={
                    "seeds": list(seeds),
                    "arms": list(arms),
                    "evaluate_at": list(evaluate_at),
                    "steps": evaluate_at[-1],
                }
            ),
            "planar": base.planar.model_copy(
                update={"problems": list(problems), "seeds": list(seeds), "arms": list(planar_arms)}
            ),
            "trajectories": base.trajectories.model_copy(update={"checkpoint": checkpoints[-1]}),
        }
    )


def write_json(path, value):
    """As artifacts.write_json, without the waits for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write(
    settings,
    root,
    name="digits",
    images=60,
    shifts=SHIFTS,
    fall=0.02,
    noise=0.0005,
    cost=10,
    planar_shift=-0.05,
    mmd=0.5,
    quality=0.3,
):
    """Write every metrics file that ``settings`` name under ``root/name`` and return them as Metrics.

    :param shifts: bits/dim that each arm differs from `simple` by at the last step (linear in the step); a
        value may be a function of the checkpoint
    :param fall: bits/dim by which `simple` lies below the checkpoint it came from, at the last step
    :param noise: the standard deviation of a seed's and of an image's difference
    :param cost: network evaluations of `tbc` in those of the other arms
    :param planar_shift: nats by which mle_gfn lies above ddpm
    :param quality: every model's sliced Wasserstein distance on pixels; the floor's is 0.2
    :param mmd: of mle_gfn, in units of the floor's 95 % quantile
    """
    generator = np.random.default_rng(7)
    folder = Path(root) / name / "metrics"
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
        baseline[step] = 2.55 + 0.9 * np.exp(-step / settings.pretrain.segments[2 // 2] / 1.4) + image
        write_json(
            folder / "nll" / f"baseline-{step}.json",
            {
                **about,
                "checkpoint": step,
                "arm": "baseline",
                "seed": None,
                "points": [point(step, 0, baseline[step])],
            },
        )
    steps = settings.finetune.steps
    for checkpoint in settings.pretrain.checkpoints:
        for seed in settings.finetune.seeds:
            for arm in settings.finetune.arms:
                shift = shifts[arm](checkpoint) if callable(shifts[arm]) else shifts[arm]
                own = noise * generator.normal() if arm != "simple" else 0.0
                jitter = noise * generator.normal(size=images)
                points = []
                for n in settings.finetune.evaluate_at:
                    share = n / steps
                    drop = fall * (1 - np.exp(-3 * share)) / (1 - np.exp(-3))
                    values = baseline[checkpoint] - drop + share * (shift + own) + share * jitter
                    points.append(point(checkpoint + n, n, values))
                run = f"{checkpoint}-{arm}-{seed}"
                write_json(
                    folder / "nll" / f"{run}.json",
                    {**about, "checkpoint": checkpoint, "arm": arm, "seed": seed, "points": points},
                )
                each = steps * settings.finetune.batch * (cost if arm == "tbc" else 1)
                write_json(
                    folder / "finetune" / f"{run}.json",
                    {
                        "scale": name,
                        "checkpoint": checkpoint,
                        "arm": arm,
                        "seed": seed,
                        "steps": steps,
                        "network_evaluations": {"forward": each, "backward": each},
                        "images_seen": steps * settings.finetune.batch,
                        "lambda": 0.001,
                        "log": [],
                    },
                )
    shown = settings.trajectories
    for arm in ("baseline", *settings.finetune.arms):
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
    for problem in settings.planar.problems:
        runs = []
        for seed in settings.planar.seeds:
            level = 1 + 0.01 * generator.normal()
            for model, shift in (("ddpm", 0.0), ("vlb", planar_shift / 2), ("mle_gfn", planar_shift)):
                nll = level + shift + 0.002 * generator.normal()
                runs.append(
                    {
                        "model": model,
                        "seed": seed,
                        "nll": nll,
                        "nll_standard_error": 0.008,
                        "elbo_nll": nll + 0.05,
                        "mmd": 0.02 * (mmd if model == "mle_gfn" else 1.5) * (1 + 0.02 * generator.normal()),
                        "network_evaluations": {"forward": 1000, "backward": 500},
                    }
                )
        write_json(
            folder / "planar" / f"{problem}.json",
            {
                "scale": name,
                "problem": problem,
                "trajectories": 64,
                "points": 1000,
                "timesteps": 30,
                "runs": runs,
                "entropy": 0.9,
                "mmd_floor": {"mean": 0.01, "quantile_95": 0.02},
                "mmd_kernel": "gaussian, median heuristic",
            },
        )
    return Metrics(name, settings, root)


def write_samples(settings, root, name="digits", channels=1, side=8, points=2000):
    """Write samples that look like something: rings for the planar problems, blobs for the images."""
    generator = np.random.default_rng(3)
    folder = Path(root) / name / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    for k, problem in enumerate(settings.planar.problems):
        angle = generator.uniform(0, 2 * np.pi, points)
        radius = 2 + 0.5 * np.sin((k + 2) * angle)
        data = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        data = (data + generator.normal(0, 0.08, data.shape)).astype(np.float32)
        blurred = {
            m: (data + generator.normal(0, s, data.shape)).astype(np.float32)
            for m, s in (("ddpm", 0.15), ("mle_gfn", 0.08))
        }
        save_file({"data": data, **blurred}, folder / f"planar-{problem}.safetensors")
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
