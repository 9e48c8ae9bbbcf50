"""The figure of classifier-free guidance: fidelity against diversity, and samples at several weights."""

import numpy as np
import pandas

from reproduction.drawing import style
from reproduction.gallery.report.sheets import show

SHEETS = 4


def plot(result):
    from matplotlib.figure import Figure

    weights = result.settings["weights"]
    figure = Figure(figsize=(style.WIDTH, 4.9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.3])
    trade, distance = above.subplots(1, 2)
    x, dx = measured(result, "diversity", weights)
    y, dy = measured(result, "accuracy", weights)
    trade.errorbar(x, y, dy, dx, color="#0072b2", marker="o", capsize=2, label="samples")
    for k, w in enumerate(weights):
        right = x[k] > x.mean() + (x.max() - x.min()) / 4  # no room beyond the last
        name = f"w = {w:g}  " if right else f"{w:g}"
        trade.annotate(
            name.replace("-", "−"),
            (x[k], y[k]),
            (0, 0 if right else 5 if k % 2 else -10),
            textcoords="offset points",
            ha="right" if right else "center",
            va="center" if right else "baseline",
            fontsize=6.5,
        )
    real = [result.quantities[f"{name}_data"]["values"][0] for name in ("diversity", "accuracy")]
    trade.plot(*real, color="#d55e00", marker="*", markersize=9, linestyle="none", label="test images")
    trade.set(xlabel="distance within a class", ylabel="accuracy", title="fidelity against diversity")
    trade.margins(0.08)
    trade.legend(loc="best")
    d, error = measured(result, "distance", weights)
    distance.errorbar(weights, d, error, color="#0072b2", marker="o", capsize=2)
    floor = result.quantities["distance_data"]["values"][0]
    distance.axhline(floor, color="#d55e00", linestyle="--", label="training images")
    distance.set(xlabel="w", ylim=(0, None), title="sliced distance to test images")
    distance.legend(loc="best")
    beyond = sorted(w for w in weights if w > 0)
    chosen = [f"w={w:g}" for w in sorted({-1, 0, *beyond[len(beyond) // 2 :: 2], *beyond[-1:]})][:SHEETS]
    for axis, name in zip(below.subplots(1, len(chosen)), chosen, strict=True):
        images = result.tensors[name]
        show(
            axis, images, len(images) // result.details["classes"], name.replace("=", " = ").replace("-", "−")
        )
    return figure


def measured(result, name, weights):
    """(mean over seeds, its standard error), an entry a weight."""
    keys = dict(zip(result.details["weights"].values(), result.details["weights"], strict=True))
    values = np.array([result.quantities[f"{name}_{keys[w]}"]["values"] for w in weights])
    return values.mean(1), values.std(1, ddof=1) / values.shape[1] ** 0.5


def caption(result):
    settings = result.settings
    return (
        f"Guidance weights w from {min(settings['weights']):g} (no label) over 0 (the conditional model) to "
        f"{max(settings['weights']):g}, {len(settings['seeds'])} seeds of {settings['per_class']} samples a class in "
        f"{settings['sampling_steps']} steps (bars: standard errors). Left, how many samples an independent classifier "
        "(trained on real images alone) gives their label, against the mean distance of two samples of one class. Right, "
        "sliced Wasserstein distance to test images of the same labels. Below, samples, a row a class, with the same noise "
        "at every w."
    ).replace("from -", "from −")


def table(result):
    """A row a weight, and the real images."""
    columns = {"accuracy": "accuracy", "diversity": "distance within a class", "distance": "sliced distance"}
    weights, rows = result.settings["weights"], {"w": []}
    rows["w"] = [*(f"{w:g}" for w in weights), "real images"]
    for name, column in columns.items():
        mean, error = measured(result, name, weights)
        rows[column] = [*mean, result.quantities[f"{name}_data"]["values"][0]]
        rows[f"{column}, error"] = [*error, None]
    return pandas.DataFrame(rows)
