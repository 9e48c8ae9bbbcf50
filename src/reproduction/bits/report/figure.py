"""The figure of the planar problems as 32 bits: data above, samples of each arm below."""

from reproduction.bits.report.metrics import ARMS
from reproduction.drawing import density, style

__all__ = ["caption", "draw"]


def draw(samples, arms):
    """``{"pdf": bytes, "svg": …, "png": …}``.

    :param samples: {problem: {"data" or an arm: [n, 2]}} in the order of the columns
    :param arms: in the order of the rows
    """
    titles = {"data": "data", **{arm: ARMS[arm] for arm in arms}}
    return style.draw(density.grid, samples, titles, interpolation="none", size=7)


def caption(metrics):
    """What the figure shows, in Markdown."""
    return (
        f"**The planar problems as 32 bits** (scale `{metrics.name}`, seed {metrics.settings.seeds[0]}): data above, "
        f"samples of each arm below, as smoothed histograms of the cells' centres; {len(metrics.bits)} problems, rows of a "
        "column share frame and colour range.\n"
    )
