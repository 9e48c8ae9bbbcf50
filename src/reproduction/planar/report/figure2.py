"""Figure 2: the synthetic 2-D problems. Top row: ground truth; bottom row: samples of MLE-GFN."""

import numpy as np

from reproduction.drawing import style
from reproduction.drawing.density import grid, window

__all__ = ["caption", "draw", "outside", "plot"]


def draw(samples):
    """``{"pdf": bytes, "svg": …, "png": …}`` of :func:`plot`."""
    return style.draw(plot, samples)


def plot(samples):
    """A matplotlib figure. ``samples``: {problem: {"data": [n, 2], "mle_gfn": [n, 2], …}} in the order of the columns."""
    return grid(samples, {"data": "ground truth", "mle_gfn": "MLE-GFN"})


def outside(points, frame):
    """The share of ``points`` [n, 2] that the frame does not show."""
    low, high = np.array(frame).T
    return float(np.mean(((points < low) | (points > high)).any(axis=1)))


def caption(name, samples):
    """What the figure shows, in Markdown."""
    counts = sorted({len(points["data"]) for points in samples.values()})
    lost = {p: outside(v["mle_gfn"], window(v["data"])) for p, v in samples.items()}
    notes = ", ".join(f"{problem} {share:.1%}" for problem, share in lost.items() if share >= 0.0005)
    hidden = f" Samples of MLE-GFN outside the frame: {notes}." if notes else ""
    return f"""**Figure 2** (scale `{name}`). Synthetic 2-D problems: top, ground truth; bottom, samples of MLE-GFN, \
{" or ".join(str(n) for n in counts)} points each, as a smoothed histogram on equal axes; both rows of a column \
share frame and colour range.{hidden}
"""
