"""The figure of inpainting: filled digits, their accuracy and seams, and the Gaussian whose answer is known."""

import numpy as np

from reproduction.drawing import style
from reproduction.gallery.report.sheets import show

ARMS = {
    "replaced": ("replacement", style.GREY, "s"),
    "replaced_long": ("replacement, more steps", "#0072b2", "D"),
    "resampled": ("resampling", "#d55e00", "o"),
}
SHORT = {"replaced_long": "…, more steps"}  # above a sheet
PARTS = {"three_quarters": "¾ known", "half": "left half known", "quarter": "¼ known"}


def plot(result):
    from matplotlib.figure import Figure

    parts, tensors = result.settings["known"], result.tensors
    figure = Figure(figsize=(style.WIDTH, 1.35 * len(parts) + 2.0), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.35 * len(parts), 2.0])
    axes = np.atleast_2d(above.subplots(len(parts), len(ARMS) + 2))
    for row, part in zip(axes, parts, strict=True):
        data = tensors["data"]
        hidden = np.where(tensors[f"{part}-known"] == 1, data, 0.0)
        sheets = {"test images": data, PARTS[part]: hidden}
        sheets |= {SHORT.get(arm, ARMS[arm][0]): tensors[f"{part}-{arm}"] for arm in ARMS}
        for axis, (title, images) in zip(row, sheets.items(), strict=True):
            show(axis, images[:9], 3, title)
            axis.title.set_size(7)
    accuracy, seam, gaussian = below.subplots(1, 3)
    dots(accuracy, result, "accuracy", parts, "classifier's accuracy")
    dots(seam, result, "seam", parts, "step² across the seam")
    accuracy.legend(loc="best")
    rows = result.details["gaussian"]
    r = [row["resamplings"] for row in rows]
    gaussian.plot(r, [row["mean_error"] for row in rows], color="#d55e00", marker="o", label="mean")
    gaussian.plot(r, [row["variance_error"] for row in rows], color="#009e73", marker="s", label="variance")
    gaussian.set(xlabel="r, times each stretch is sampled", title="a Gaussian: error", xscale="log")
    gaussian.set(ylim=(0, None), xticks=r, xticklabels=map(str, r))
    gaussian.minorticks_off()
    gaussian.legend(loc="upper right")
    return figure


def dots(axis, result, name, parts, title):
    """A quantity of each arm and part, with its standard error over seeds; the true images' as a line."""
    for k, part in enumerate(parts):
        for j, (arm, (label, colour, marker)) in enumerate(ARMS.items()):
            values = np.array(result.quantities[f"{name}_{part}_{arm}"]["values"])
            axis.errorbar(
                k + 0.18 * (j - 1),
                values.mean(),
                values.std(ddof=1) / len(values) ** 0.5,
                color=colour,
                marker=marker,
                linestyle="none",
                capsize=2,
                label=label if k == 0 else None,
            )
        key = "accuracy_data" if name == "accuracy" else f"{name}_{part}_data"
        true = result.quantities[key]["values"][0]
        axis.hlines(true, k - 0.35, k + 0.35, color=style.INK, linewidth=0.8, linestyle=":")
    axis.set(xticks=range(len(parts)), xticklabels=[PARTS[part] for part in parts], title=title)
    axis.set(xlim=(-0.6, len(parts) - 0.4), ylim=(0, None))


def caption(result):
    settings = result.settings
    return (
        f"Above, test digits of which a part is kept, filled by replacement in {settings['sampling_steps']} steps, in as "
        f"many as resampling costs, and by resampling (r = {settings['resamplings']}, j = {settings['jump']}). Below, over "
        f"{len(settings['seeds'])} seeds of {settings['images']} images (bars: standard errors; dotted: the true images): "
        "accuracy of a classifier on the filled digits, and mean square step between neighbours of which one is known. "
        f"Right, a Gaussian of correlation {settings['correlation']:g} with one coordinate known and exact ε: the error of "
        "the other's conditional mean and variance; r = 1 is replacement."
    )
