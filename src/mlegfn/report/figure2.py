"""Figure 2: the synthetic 2-D problems. Top row: ground truth; bottom row: samples of MLE-GFN."""

import numpy as np

from mlegfn.report import style

BINS = 90


def plot(samples):
    """``samples``: {problem: {"data": [n, 2], "mle_gfn": [n, 2], …}} in the order of the columns."""
    from matplotlib.figure import Figure

    if not samples:
        figure = Figure(figsize=(style.WIDTH, 0.8))
        figure.text(0.5, 0.5, "This scale has no 2-D problems.", ha="center", va="center")
        return figure
    left, top, gap, n = 0.2, 0.2, 0.045, len(samples)
    side = min((style.WIDTH - left) / n - gap, 1.4)
    width, height = left + n * (side + gap), top + 2 * (side + gap)
    figure = Figure(figsize=(width, height))
    for column, (problem, points) in enumerate(samples.items()):
        frame = window(points["data"])
        brightest = np.quantile(density(points["data"], frame), 0.995)
        for row, source in enumerate(("data", "mle_gfn")):
            x, y = left + column * (side + gap), gap + (1 - row) * (side + gap)
            axes = figure.add_axes([x / width, y / height, side / width, side / height])
            axes.imshow(
                density(points[source], frame),
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
                axes.set_ylabel(("ground truth", "MLE-GFN")[row], labelpad=4)
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


def outside(points, frame):
    """The share of ``points`` [n, 2] that the frame does not show."""
    low, high = np.array(frame).T
    return float(np.mean(((points < low) | (points > high)).any(axis=1)))


def ink():
    """White to dark blue, even in lightness, so that it prints in grey as well."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ink", ["#ffffff", "#9ecae1", "#3182bd", "#08306b"])


def caption(name, samples):
    """What the figure shows, in Markdown."""
    if not samples:
        return f"**Figure 2** (scale `{name}`). This scale has no 2-D problems.\n"
    counts = sorted({len(points["data"]) for points in samples.values()})
    lost = {p: outside(v["mle_gfn"], window(v["data"])) for p, v in samples.items()}
    notes = ", ".join(f"{problem} {share:.1%}" for problem, share in lost.items() if share >= 0.0005)
    hidden = f" Samples of MLE-GFN outside the frame: {notes}." if notes else ""
    return f"""**Figure 2** (scale `{name}`). Synthetic 2-D problems: top, ground truth; bottom, samples of MLE-GFN, \
{" or ".join(str(n) for n in counts)} points each, as a smoothed histogram on equal axes; both rows of a column \
share frame and colour range.{hidden}
"""
