"""Metrics of P_B on bit strings that were never trained, made up with known effects; and the settings of a tiny run."""

import json
from pathlib import Path

import numpy as np
from helpers.parts import settings_of

from reproduction.consistency.policy_settings import Policy
from reproduction.consistency.report.policy_metrics import PolicyMetrics
from reproduction.consistency.settings import Consistency

PROBLEMS = ["moons", "circles"]
# NLL minus that of uniform_single, nats
NLL = {
    "uniform": -0.05,
    "uniform_single": 0.0,
    "score": -0.02,
    "tbc": -0.02,
    "free_uniform": -0.02,
    "free_ordered": 0.05,
    "ordered": -0.1,
}


def settings(seeds=(0, 1, 2, 3)):
    """The settings of `digits` with other seeds."""
    base = settings_of(Consistency, "consistency", "digits").policy
    return base.model_copy(update={"seeds": list(seeds)})


def tiny(**changes):
    """Settings of a run that takes a moment; its numbers mean nothing."""
    small = {
        "seeds": [0], "steps": 3, "batch": 8, "times": 2, "points": 2, "trajectories": 2, "hidden": 8,
        "backward_hidden": 4, "test_points": 8, "importance_samples": 4, "mmd_points": 8, "mmd_repeats": 2,
        "clip": 0.5,
    }  # fmt: skip
    raw = settings_of(Consistency, "consistency", "digits").policy.model_dump(mode="json")
    return Policy(**{**raw, **small, **changes})


def write(given, root, problems=PROBLEMS, name="digits", nll=NLL, bound=-0.05, order=0.8, noise=0.002):
    """Write the metrics of ``problems`` below ``root`` and return them as ``PolicyMetrics``.

    :param nll: {arm: the change of its NLL}
    :param bound: the change of every learned arm's bound
    :param order: the rank correlation of `free_uniform`
    :param noise: standard deviation of all this over seeds
    """
    draw = np.random.default_rng(7)
    folder = Path(root, name, "consistency", "metrics", "policy")
    folder.mkdir(parents=True, exist_ok=True)
    for problem in problems:
        runs = []
        for seed in given.seeds:
            for arm in given.arms:
                shaken = noise * draw.normal(size=3) * (arm != "uniform_single")
                changes = {
                    "nll": nll[arm] + shaken[0],
                    "elbo_nll": (bound if arm in ("score", "tbc", "free_uniform") else 0.0) + shaken[1],
                    "log_w_variance": 0.0,
                }
                runs.append(
                    {
                        "arm": arm,
                        "seed": seed,
                        "nll": 20.1 + changes["nll"],
                        "nll_standard_error": 0.004,
                        "nll_half": 20.2,
                        "elbo_nll": 20.3 + changes["elbo_nll"],
                        "log_w_variance": 0.3,
                        "mmd": 1e-4,
                        "rank_correlation": (order if arm == "free_uniform" else 0.0) + shaken[2],
                        "evaluations": {"points": 10, "trajectories": 20, "forward": 1000, "backward": 0},
                        "differences": {
                            key: {"value": value, "standard_error": noise} for key, value in changes.items()
                        },
                    }
                )
        value = {"entropy": 20.0, "points": 100, "mmd_floor": {"quantile_95": 2e-4}, "runs": runs}
        (folder / f"{problem}.json").write_text(json.dumps(value))
    return PolicyMetrics(name, given, problems, root)
