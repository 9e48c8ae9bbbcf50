"""Metrics and samples of planar problems that were never trained, made up so that tests know what must come of them."""

import json
from pathlib import Path

import numpy as np
from helpers.parts import settings_of
from safetensors.numpy import save_file

from reproduction.planar.report.metrics import Metrics
from reproduction.planar.settings import Planar

PROBLEMS = ["2spirals", "8gaussians", "pinwheel", "circles", "moons", "swissroll", "checkerboard"]


def settings(seeds=(0, 1, 2), arms=("simple", "vlb", "vlb_tbc")):
    """The settings of `digits` with other seeds and arms."""
    base = settings_of(Planar, "planar", "digits")
    return base.model_copy(update={"seeds": list(seeds), "arms": list(arms)})


def write(given, root, problems=PROBLEMS, name="digits", shift=-0.05, mmd=0.5):
    """Write the metrics of ``problems`` below ``root`` and return them as ``Metrics``.

    :param shift: nats by which mle_gfn lies above ddpm
    :param mmd: of mle_gfn, in units of the floor's 95 % quantile
    """
    generator = np.random.default_rng(7)
    folder = Path(root, name, "planar", "metrics")
    folder.mkdir(parents=True, exist_ok=True)
    for problem in problems:
        runs = []
        for seed in given.seeds:
            level = 1 + 0.01 * generator.normal()
            for model, above in (("ddpm", 0.0), ("vlb", shift / 2), ("mle_gfn", shift)):
                nll = level + above + 0.002 * generator.normal()
                distance = 0.02 * (mmd if model == "mle_gfn" else 1.5) * (1 + 0.02 * generator.normal())
                runs.append(
                    {
                        "model": model,
                        "seed": seed,
                        "nll": nll,
                        "nll_standard_error": 0.008,
                        "elbo_nll": nll + 0.05,
                        "mmd": distance,
                        "network_evaluations": {"forward": 1000, "backward": 500},
                    }
                )
        value = {
            "scale": name,
            "problem": problem,
            "trajectories": 64,
            "points": 1000,
            "timesteps": 30,
            "runs": runs,
            "entropy": 0.9,
            "mmd_floor": {"mean": 0.01, "quantile_95": 0.02},
            "mmd_kernel": "gaussian, median heuristic",
        }
        (folder / f"{problem}.json").write_text(json.dumps(value))
    return Metrics(name, given, problems, root)


def write_samples(root, problems=PROBLEMS, name="digits", points=2000):
    """Write samples that look like something: rings."""
    generator = np.random.default_rng(3)
    folder = Path(root, name, "planar", "samples")
    folder.mkdir(parents=True, exist_ok=True)
    for k, problem in enumerate(problems):
        angle = generator.uniform(0, 2 * np.pi, points)
        radius = 2 + 0.5 * np.sin((k + 2) * angle)
        data = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        data = (data + generator.normal(0, 0.08, data.shape)).astype(np.float32)
        blurred = {
            model: (data + generator.normal(0, width, data.shape)).astype(np.float32)
            for model, width in (("ddpm", 0.15), ("mle_gfn", 0.08))
        }
        save_file({"data": data, **blurred}, folder / f"{problem}.safetensors")
