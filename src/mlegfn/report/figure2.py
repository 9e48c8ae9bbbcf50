"""Figure 2: the synthetic 2-D problems. Top row: ground truth; bottom row: samples of MLE-GFN."""

import numpy as np

from mlegfn.report import style
from mlegfn.report.density import grid, window


def plot(samples):
    """``samples``: {problem: {"data": [n, 2], "mle_gfn": [n, 2], …}} in the order of the columns."""
    from matplotlib.figure import Figure

    if not samples:
        figure = Figure(figsize=(style.WIDTH, 0.8))
        figure.text(0.5, 0.5, "This scale has no 2-D problems.", ha="center", va="center")
        return figure
    return grid(samples, {"data": "ground truth", "mle_gfn": "MLE-GFN"})


def outside(points, frame):
    """The share of ``points`` [n, 2] that the frame does not show."""
    low, high = np.array(frame).T
    return float(np.mean(((points < low) | (points > high)).any(axis=1)))


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
