"""The figure of the spiral: the data on their way, the learned way back, and the field that leads back."""

import numpy as np

from reproduction.drawing import style

COLOURS = "viridis"  # of the points: along the spiral, from its middle outwards


def colours(points):
    """[N] in 0…1: the place of each point [N, 2] in the order of distance from the middle."""
    return np.hypot(*points.T).argsort().argsort() / max(len(points) - 1, 1)


def lengths(field):
    """Lengths [K, G, G] of the displacements [K, G, G, 2], and matplotlib's LogNorm over all of them."""
    from matplotlib.colors import LogNorm

    result = np.linalg.norm(field, axis=-1)
    low, high = np.quantile(result, [0.02, 1])
    return result, LogNorm(max(low, 1e-6), max(high, 2e-6))


def plot(result):
    from matplotlib.figure import Figure

    shown, extent = result.details["shown"], result.details["extent"]
    figure = Figure(figsize=(style.WIDTH, 4.05), layout="constrained")
    axes = figure.subplots(3, len(shown), squeeze=False)
    for row, name in enumerate(("data", "model")):
        states = result.tensors[name]
        for axis, points in zip(axes[row], states, strict=True):
            axis.scatter(*points.T, c=colours(states[0]), cmap=COLOURS, s=1.6, linewidths=0, rasterized=True)
    grid, field = result.tensors["grid"], result.tensors["field"]
    length, norm = lengths(field)
    for axis, value, much in zip(axes[2], field, length, strict=True):
        axis.set_rasterization_zorder(2.4)  # hundreds of arrows a panel would be megabytes of SVG
        drawn = axis.streamplot(
            *np.moveaxis(grid, -1, 0).astype(float),
            *np.moveaxis(value, -1, 0),
            color=much,
            cmap="magma",
            norm=norm,
            density=0.9,
            linewidth=0.7,
            arrowsize=0.6,
        )
    for axis in axes.flat:
        axis.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(True)
    for axis, t in zip(axes[0], shown, strict=True):
        axis.set_title(f"t = {t}")
    if shown[0] == 0:
        axes[2, 0].set_title("t = 1")
    for axis, what in zip(axes[:, 0], ("noising →", "← learned reverse", "learned drift"), strict=True):
        axis.set_ylabel(what)
    bar = figure.colorbar(drawn.lines, ax=list(axes[2]), shrink=0.9, pad=0.01)
    bar.set_label("|μ_θ − x|")
    return figure


def caption(result):
    settings, mmd = result.settings, result.quantities["mmd"]["values"]
    return (
        f"Above, {settings['points']} points of the Swiss roll under the {settings['beta_schedule']} schedule, T = "
        f"{settings['timesteps']}. Middle, the way back of as many points of noise, right to left, by ancestral sampling "
        f"with a network of {result.details['parameters']:,} parameters after {settings['steps']} steps; every point keeps the "
        "colour of its place at t = 0. Below, streamlines of the learned drift μ_θ(x, t) − x, the displacement from x to the "
        "mean of the next reverse step, coloured by its length (coordinates have variance 1 at t = 0). MMD² of samples "
        f"to fresh data: {np.mean(mmd):.1e}, of noise {np.mean(result.quantities['mmd_noise']['values']):.1e}, of data to data "
        f"below {result.quantities['mmd_floor']['values'][0]:.1e} in 95 % of cases."
    )
