"""The figure of forward diffusion: a cloud on its way, entropy and distance against t."""

import numpy as np

from reproduction.drawing import style

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
LINES = {"linear": "-", "cosine": "--"}


def plot(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.5])
    names = sorted(result.tensors, key=lambda name: int(name.split("-")[1]))
    for axis, name in zip(above.subplots(1, len(names)), names, strict=True):
        axis.scatter(*result.tensors[name].T, s=0.6, color=style.INK, linewidths=0, rasterized=True)
        axis.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xticks=[], yticks=[])
        axis.set_title(f"t = {name.split('-')[1]}")
    entropy, distance = below.subplots(1, 2)
    starts = list(dict.fromkeys(curve["start"] for curve in result.details["curves"]))
    for curve in result.details["curves"]:
        how = {
            "color": COLOURS[starts.index(curve["start"]) % len(COLOURS)],
            "linestyle": LINES[curve["schedule"]],
            "label": f"{curve['start']}, {curve['schedule']}",
        }
        t, dims = np.array(curve["t"]), curve["dims"]
        entropy.plot(t, np.array(curve["entropy"]) / dims, **how)
        divergence = np.array(curve["divergence"])
        distance.plot(t, np.maximum(divergence, 1e-4), **how)
    entropy.axhline(0.5 * np.log(2 * np.pi * np.e), color=style.GREY, linewidth=0.8)
    entropy.set(title="entropy of x_t, nats a dimension", xlabel="t", xscale="log", ylim=(-3, None))
    distance.set(title="KL(p_t ‖ N(0, I)), nats", xlabel="t", xscale="log", yscale="log")
    entropy.legend(fontsize=6, loc="lower right")
    return figure


def caption(result):
    settings = result.settings
    schedules = " and ".join(settings["schedules"])
    return (
        f"Above, {settings['problems'][0]} under the {settings['schedules'][0]} schedule. Below, for "
        f"{len(settings['problems'])} planar problems and the images, T = {settings['timesteps']}, schedules {schedules}: "
        "the entropy of x_t (grey: that of a normal distribution) and its divergence from one, both of the exact "
        f"mixture over {settings['points']} data (values below 0.0001 are drawn there)."
    )
