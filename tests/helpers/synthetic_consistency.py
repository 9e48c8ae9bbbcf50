"""Metrics of signed λ that were never trained, made up with a known slope so that tests know what must come of them."""

import json
from pathlib import Path

import numpy as np
from helpers.parts import settings_of

from reproduction.consistency.arms import arms_of
from reproduction.consistency.report.metrics import Metrics
from reproduction.consistency.settings import Consistency

PROBLEMS = ["moons", "circles"]


def settings(seeds=(0, 1, 2, 3)):
    """The settings of `digits` with other seeds."""
    base = settings_of(Consistency, "consistency", "digits")
    return base.model_copy(update={"seeds": list(seeds)})


def write(given, root, problems=PROBLEMS, name="digits", slope=-0.5, even=0.0, bound=0.0, noise=0.02):
    """Write the metrics of ``problems`` below ``root`` and return them as ``Metrics``.

    An arm of λ (IWAE-K: the λ that it is equal to) has ΔVar = −0.1 λ and ΔNLL = ``slope`` ΔVar.

    :param even: ΔNLL has this share of itself more, at either sign of λ
    :param bound: what the bound changes by, over what NLL does
    :param noise: relative deviations from all this
    """
    draw = np.random.default_rng(7)
    folder = Path(root, name, "consistency", "metrics", "signed")
    folder.mkdir(parents=True, exist_ok=True)
    for problem in problems:
        runs, optima = [], []
        for seed in given.seeds:
            for arm in arms_of(given).values():
                variance, shaken = -0.1 * arm.sign, 1 + noise * draw.normal(size=3)
                nll = slope * variance + even * abs(slope * variance)
                changes = {
                    "nll": nll * shaken[0],
                    "elbo_nll": bound * nll * shaken[1],
                    "log_w_variance": variance * shaken[2],
                    "log_w_third_cumulant": 0.1 * variance,
                }
                run = {"nll": 2.5 + nll, "nll_standard_error": 0.005, "elbo_nll": 2.6, "log_w_variance": 0.2}
                runs.append(
                    {
                        **run,
                        "arm": arm.name,
                        "seed": seed,
                        "differences": {
                            key: {"value": value, "standard_error": abs(value) / 20}
                            for key, value in changes.items()
                        },
                    }
                )
            curve = [
                {"step": step, "lr": rate, "elbo_nll": 2.6 + rate, "standard_error": 0.01}
                for step, rate in ((10, 0.002), (20, 0.002), (30, 0.001), (40, 0.001))
            ]
            pull = {
                name: {
                    key: {"value": value, "standard_error": 0.1}
                    for key, value in (
                        ("bound_squared", 0.2 * off),
                        ("bound_variance", off),
                        ("variance_squared", 4.0),
                    )
                }
                for name, off in (("pretrained", 3.0), ("optimum", 0.1))
            }
            optima.append({"seed": seed, "curve": curve, "pull": pull})
        value = {"points": 100, "timesteps": 40, "trajectories": 16, "runs": runs, "optima": optima}
        (folder / f"{problem}.json").write_text(json.dumps(value))
    return Metrics(name, given, problems, root)
