"""The figure of annealing: bounds against cost, where the truth is known and on images, and the path of log w."""

import numpy as np

from reproduction.drawing import style

WEIGHTED, ANNEALED = "#0072b2", "#d55e00"


def plot(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 2.5), layout="constrained")
    points, images, path = figure.subplots(1, 3)
    for axis, name in ((points, "points"), (images, "images")):
        curves = result.details[name]
        for kind, colour, marker, label in (
            ("weighted", WEIGHTED, "o", "importance-weighted"),
            ("annealed", ANNEALED, "D", "annealed"),
        ):
            axis.plot(curves[kind]["cost"], curves[kind]["mean"], color=colour, marker=marker, label=label)
        axis.set(xscale="log", xlabel="cost, in noising paths")
    points.axhline(result.details["truth"], color=style.INK, linewidth=0.8, linestyle="--", label="truth")
    points.set(title="log p of 8gaussians, nats")
    points.legend(loc="lower right")
    images.set(title="log p of images, bits/dim")
    values = np.array(result.details["images"]["path"])
    fraction = np.arange(len(values)) / len(values)
    path.plot(fraction, values, color=ANNEALED)
    path.axhline(
        result.details["images"]["annealed"]["mean"][-1], color=style.INK, linewidth=0.8, linestyle="--"
    )
    path.set(title="log w along β, bits/dim", xlabel="β")
    return figure


def caption(result):
    points, images = result.settings["points"], result.settings["images"]
    counts = ", ".join(map(str, images["temperatures"]))
    return (
        f"Lower bounds on log p(x_0), mean over data, against their cost: a cost of 1 is one noising path, where the "
        f"importance-weighted curve is the bound itself; a gradient counts as 3. Left, {points['data']} points of 8gaussians "
        f"under the perfect network with T = {points['timesteps']} steps, truth by numerical integration. Middle, "
        f"{images['data']} test images, T = {images['timesteps']}, annealed at {counts} temperatures. Right, log w along the "
        "longest annealing of the images: from the bound to the model's own posterior; its mean over β (dashed) is the "
        "annealed estimate."
    )
