"""Points in the plane as smoothed histograms: a column a problem, a row a source, on equal axes and colours."""

import numpy as np

from reproduction.drawing import style

__all__ = ["density", "grid", "ink", "window"]

BINS = 90


def grid(samples, titles, interpolation="bilinear", size=None):
    """A matplotlib figure.

    :param samples: {problem: {source: [n, 2]}} in the order of the columns; "data" is one of the sources and sets
        the frame and the colours of its column
    :param titles: {source: its row's name} in the order of the rows
    :param interpolation: of imshow; ``none`` keeps the bins, and vector formats small where there are many rows
    :param size: of the rows' names, points
    """
    from matplotlib.figure import Figure

    left, top, gap, rows = 0.2, 0.2, 0.045, len(titles)
    side = min((style.WIDTH - left) / len(samples) - gap, 1.4)
    width, height = left + len(samples) * (side + gap), top + rows * (side + gap)
    figure = Figure(figsize=(width, height))
    for column, (problem, points) in enumerate(samples.items()):
        frame = window(points["data"])
        brightest = np.quantile(density(points["data"], frame), 0.995)
        for row, (source, title) in enumerate(titles.items()):
            x, y = left + column * (side + gap), gap + (rows - 1 - row) * (side + gap)
            axes = figure.add_axes([x / width, y / height, side / width, side / height])
            axes.imshow(
                density(points[source], frame),
                extent=(*frame[0], *frame[1]),
                origin="lower",
                cmap=ink(),
                interpolation=interpolation,
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
                axes.set_ylabel(title, labelpad=4, fontsize=size)
    return figure


def window(data):
    """A square frame ((left, right), (bottom, top)) around ``data`` [n, 2], a tenth wider than its spread.

    Its half-width is from quantiles, so that one far point does not shrink the picture.
    """
    low, high = np.quantile(data, [0.002, 0.998], axis=0)
    centre, half = (low + high) / 2, 0.58 * (high - low).max()
    return tuple((float(c - half), float(c + half)) for c in centre)


def density(points, frame):
    """A smoothed 2-D histogram [BINS, BINS] of ``points`` [n, 2]; each of the n counts 1/n, inside or not."""
    from scipy.ndimage import gaussian_filter

    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=BINS, range=(frame[1], frame[0]))
    return gaussian_filter(counts / len(points), sigma=1.1)


def ink():
    """White to dark blue, even in lightness, so that it prints in grey as well."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ink", ["#ffffff", "#9ecae1", "#3182bd", "#08306b"])
