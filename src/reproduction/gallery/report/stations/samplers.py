"""The figure of the samplers: distance against evaluations, samples by few of them, and two likelihoods."""

import numpy as np

from reproduction.drawing import style
from reproduction.gallery.report.sheets import show

LOOKS = {
    "ancestral": ("#8c8c8c", "s", "ancestral, β_t"),
    "ddim_1": ("#e69f00", "s", "DDIM, η = 1"),
    "ddim": ("#0072b2", "o", "DDIM, η = 0"),
    "dpm": ("#d55e00", "D", "DPM-Solver++"),
    "heun": ("#009e73", "^", "Heun"),
}
TOP = 1.75  # floors: what is farther off is said in the caption, or the rest would be a line


def plot(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 4.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.75, 1])
    distance, bits = above.subplots(1, 2, width_ratios=[1.5, 1])
    for name, curve in result.details["curves"].items():
        colour, marker, label = LOOKS[name]
        values = np.array([point["distances"] for point in curve])
        distance.errorbar(
            [point["evaluations"] for point in curve],
            values.mean(1),
            values.std(1, ddof=1),
            color=colour,
            marker=marker,
            label=label,
            elinewidth=0.6,
        )
    floor = np.mean(result.quantities["distance_floor"]["values"])
    distance.axhline(floor, color=style.INK, linewidth=0.8, linestyle="--", label="training images")
    distance.set(
        title="sliced Wasserstein distance to test images",
        xlabel="evaluations of the network",
        xscale="log",
        ylim=(0.95 * floor, TOP * floor),
    )
    distance.legend()
    chain, flow = result.tensors["chain"], result.tensors["flow"]
    ends = [min(chain.min(), flow.min()) - 0.05, max(chain.max(), flow.max()) + 0.05]
    bits.plot(ends, ends, color=style.GREY, linewidth=0.8)
    bits.plot(chain, flow, ".", color=LOOKS["ddim"][0], label="Hutchinson")
    bits.plot(
        chain[: len(result.tensors["exact"])],
        result.tensors["exact"],
        "x",
        color=LOOKS["dpm"][0],
        label="exact",
    )
    bits.set(title="bits/dim, dequantised", xlabel="bound of the chain", ylabel="probability flow")
    bits.legend()
    names = [name for name in result.tensors if name.startswith("samples-")]
    for axis, name in zip(below.subplots(1, len(names)), names, strict=True):
        _, solver, count = name.split("-")
        show(axis, result.tensors[name], 4)
        axis.set_title(f"{LOOKS[solver][2]}\n{count} evaluations", fontsize=7, fontweight="normal")
    return figure


def beyond(result):
    """A sentence on the points above the figure, or nothing."""
    top = TOP * np.mean(result.quantities["distance_floor"]["values"])
    far = [
        f"{LOOKS[name][2]} with {point['evaluations']} ({np.mean(point['distances']):.3g})"
        for name, curve in result.details["curves"].items()
        for point in curve
        if np.mean(point["distances"]) > top
    ]
    return f" Off the scale: {', '.join(far)}." if far else ""


def caption(result):
    settings = result.settings
    return (
        f"Above, left: {settings['samples']} samples of one network by each sampler, mean and standard deviation over "
        f"{len(settings['seeds'])} seeds of sampling.{beyond(result)} Right: bits/dim of {settings['images']} test images with uniform noise, "
        f"which enter at t = {result.details['start']}, by the probability flow "
        f"({result.details['evaluations']['hutchinson']} evaluations) and by the bound of the chain with analytic variances; "
        "below the line the flow is the better model. Below: samples from one noise, by as few evaluations as were tried, "
        "and by all T."
    )
