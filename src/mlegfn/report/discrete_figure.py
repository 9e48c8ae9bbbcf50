"""The discrete planar problems' figure: data above, a row of samples for each arm below."""

import numpy as np

from mlegfn.report import style
from mlegfn.report.figure2 import density, ink, window


def plot(points, titles):
    """``points``: {problem: {"data" or an arm: [n, 2]}} in the order of the columns; ``titles``: {row: its name}."""
    from matplotlib.figure import Figure

    left, top, gap = 0.2, 0.2, 0.045
    side = min((style.WIDTH - left) / len(points) - gap, 1.4)
    width, height = left + len(points) * (side + gap), top + len(titles) * (side + gap)
    figure = Figure(figsize=(width, height))
    for column, (problem, values) in enumerate(points.items()):
        frame = window(values["data"])
        brightest = np.quantile(density(values["data"], frame), 0.995)
        for row, (source, title) in enumerate(titles.items()):
            x, y = left + column * (side + gap), gap + (len(titles) - 1 - row) * (side + gap)
            axes = figure.add_axes([x / width, y / height, side / width, side / height])
            axes.imshow(
                density(values[source], frame),
                extent=(*frame[0], *frame[1]),
                origin="lower",
                cmap=ink(),
                interpolation="bilinear",
                vmin=0,
                vmax=brightest,
            )
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set(visible=True, color="#bfbfbf")
            if row == 0:
                axes.set_title(problem, loc="center", fontweight="normal", fontsize=7.5, pad=3)
            if column == 0:
                axes.set_ylabel(title, labelpad=4, fontsize=7)
    return figure
