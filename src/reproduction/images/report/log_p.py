"""The table of log p: importance weighting at the last checkpoint, beside the bound and the variance of log w."""

import numpy as np
import pandas

from reproduction.verdicts import statistics

COLUMNS = [
    *(
        "model",
        "seeds",
        "images",
        "trajectories",
        "log_p",
        "standard_error",
        "bias",
        "log_p_half",
        "elbo",
        "variance",
    ),
    *("minus_simple", "minus_simple_low", "minus_simple_high"),
]
FIELDS = ("log_p", "bias", "log_p_half", "elbo", "variance")


def frame(metrics):
    """The baseline and every arm: one row each, averaged over seeds."""
    rows = []
    for name in ("baseline", *metrics.arms):
        fields = [metrics.log_p[name, seed] for seed in metrics.seeds]
        errors = np.array([one["standard_error"] for one in fields])
        row = {
            "model": name,
            "seeds": len(fields),
            **{key: fields[0][key] for key in ("images", "trajectories")},
            **{key: np.mean([one[key] for one in fields]) for key in FIELDS},
            "standard_error": np.sqrt((errors**2).sum()) / len(errors),
        }
        if "simple" in metrics.arms and name != "simple":
            interval = statistics.paired(per_image(metrics, name) - per_image(metrics, "simple"))
            row |= dict(zip(COLUMNS[-3:], interval[:3]))
        rows.append(row)
    return pandas.DataFrame(rows, columns=COLUMNS)


def per_image(metrics, name):
    """log p̂ in nats, [seeds, images]."""
    return np.array([metrics.log_p[name, seed]["per_image"]["log_p"] for seed in metrics.seeds])


def caption(metrics):
    first = next(iter(metrics.log_p.values()))
    return (
        f"**log p** (scale `{metrics.name}`), nats an image, higher is better: {first['images']} test images at checkpoint "
        f"{metrics.checkpoints[-1]}, arms after {metrics.steps[-1]} steps. log p̂ = log mean w over {first['trajectories']} "
        "joint trajectories of each image, the same noise for every model: a lower bound in expectation. SE, trajectories: "
        "its standard error from their finite number. The bound is mean log w of the same trajectories, and to second order "
        "log p ≈ bound + ½ Var log w."
    )
