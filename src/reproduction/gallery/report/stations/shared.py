"""The figure of shared latents: samples from one x_t, how alike they are, images between two images."""

import numpy as np

from reproduction.drawing import style
from reproduction.gallery.report.sheets import show


def plot(result):
    from matplotlib.figure import Figure

    percent, tensors = result.details["percent"], result.tensors
    figure = Figure(figsize=(style.WIDTH, 4.3), layout="constrained")
    above, middle, below = figure.subfigures(3, 1, height_ratios=[1.15, 1.6, 1])
    names = ["independent", *percent]
    for axis, name in zip(above.subplots(1, len(names)), names, strict=True):
        groups = tensors[f"siblings-{name}"]
        title = "nothing shared" if name == "independent" else f"x_t, t = {part(name)}"
        show(axis, groups.reshape(-1, *groups.shape[2:]), groups.shape[1], title)
        axis.title.set_size(7)
    distance, classes, nearest = middle.subplots(1, 3)
    against(distance, result, "distance", percent, "distance of two samples")
    against(classes, result, "same_class", percent, "pairs of one class")
    against(nearest, result, "nearest", percent, "middle to training images")
    classes.set_ylim(0, 1.05)
    for axis, name in zip(below.subplots(1, len(percent)), percent, strict=True):
        mixed = tensors[f"mixed-{name}"]
        show(axis, mixed.reshape(-1, *mixed.shape[2:]), mixed.shape[1], f"mixed at {part(name)}")
        axis.title.set_size(7)
    return figure


def part(percent):
    """100 is "T", 75 is "0.75 T"."""
    return "T" if percent == 100 else f"{percent / 100:g} T"


def against(axis, result, name, percent, title):
    """A quantity over t, with its spread over seeds, and its reference as a line."""
    values = np.array([result.quantities[f"{name}_{at}"]["values"] for at in percent])
    error = values.std(1, ddof=1) / values.shape[1] ** 0.5
    where = np.array(percent) / 100
    axis.errorbar(where, values.mean(1), error, color="#0072b2", marker="o", capsize=2)
    reference, label = (
        ("pixels", "mean of pixels") if name == "nearest" else ("independent", "independent samples")
    )
    axis.axhline(
        np.mean(result.quantities[f"{name}_{reference}"]["values"]),
        color=style.GREY,
        linestyle="--",
        label=label,
    )
    axis.set(xlabel="t / T", title=title, ylim=(0, None))
    axis.legend(loc="best")


def caption(result):
    settings = result.settings
    return (
        f"Above, {settings['siblings']} samples a row, which share x_t. Middle, over {len(settings['seeds'])} seeds with "
        f"{settings['starts']} x_t each (bars: standard errors): mean distance of two samples that share x_t, the share of "
        "such pairs to which a classifier gives one class, and how far the middle between two test images is from the "
        "nearest training image. Below, test images (first and last column) and what lies between when both are noised "
        f"to x_t, mixed there and denoised ({settings['sampling_steps']} steps)."
    )
