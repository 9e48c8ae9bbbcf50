"""The figure of *which policy*: NLL of each arm against ``uniform_single``, and how far each order is that of the digits."""

import numpy as np

from reproduction.consistency.policy_arms import REFERENCE
from reproduction.drawing import style
from reproduction.verdicts.evidence import over_seeds

__all__ = ["caption", "draw", "plot"]

# The palette of drawing.style; the shape says it a second time.
LOOKS = {
    "uniform": ("#8c8c8c", "s", "uniform, averaged P_F loss"),
    "score": ("#0072b2", "^", "learned by the bound's score"),
    "tbc": ("#d55e00", "o", "learned by TBC"),
    "free_uniform": ("#009e73", "D", "a logit an entry, from uniform"),
    "free_ordered": ("#cc79a7", "v", "a logit an entry, from a soft order"),
    "ordered": ("#262626", "P", "fixed order"),
}


def draw(metrics):
    """``{"pdf": bytes, "svg": …, "png": …}`` of :func:`plot`."""
    return style.draw(plot, metrics)


def plot(metrics):
    """A matplotlib figure of two panels from :class:`reproduction.consistency.report.policy_metrics.PolicyMetrics`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    against_reference(above, metrics)
    correlations(below, metrics)
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def shown(metrics):
    """The arms that have a place: all but the reference."""
    return [arm for arm in metrics.arms if arm != REFERENCE]


def against_reference(axes, metrics):
    """ΔNLL: a column a problem, an arm beside the other; a small point a seed, the mean with its 95 % interval."""
    for number, problem in enumerate(metrics.problems):
        for place, arm in places(metrics, number):
            colour, marker, title = LOOKS[arm]
            values = metrics.change(problem, arm, "nll")
            mean = over_seeds(values, float(metrics.change(problem, arm, "nll", "standard_error")[0]))
            axes.scatter(
                np.full(len(values), place), values, s=5, color=colour, alpha=0.5, linewidths=0, zorder=1
            )
            axes.errorbar(
                place, mean.estimate, mean.high - mean.estimate, color=colour, marker=marker, linewidth=0.8,
                capsize=0, linestyle="none", label=title if number == 0 else None, zorder=2,
            )  # fmt: skip
    axes.axhline(0, color=style.INK, linewidth=0.8, zorder=0)
    # Arms differ by a nat and by a hundredth of one.
    axes.set_yscale("symlog", linthresh=0.02)
    axes.set(title=f"NLL minus that of {REFERENCE}, the same loss of P_F", ylabel="ΔNLL, nats")


def correlations(axes, metrics):
    """Rank correlation of the mean emptying steps with significance: mean over seeds, a small point a seed."""
    for number, problem in enumerate(metrics.problems):
        for place, arm in places(metrics, number):
            colour, marker, _ = LOOKS[arm]
            values = metrics.level(problem, arm, "rank_correlation")
            axes.scatter(
                np.full(len(values), place), values, s=5, color=colour, alpha=0.5, linewidths=0, zorder=1
            )
            axes.plot(place, values.mean(), color=colour, marker=marker, zorder=2)
    axes.axhline(0, color=style.INK, linewidth=0.8, zorder=0)
    axes.set(title="does P_B empty the least significant digits first?", ylabel="rank correlation")
    axes.set_ylim(-1.1, 1.1)
    axes.set_xticks(range(len(metrics.problems)), list(metrics.problems))


def places(metrics, number):
    """(x, arm) of a problem's column."""
    arms = shown(metrics)
    step = 0.8 / max(len(arms), 1)
    return [(number + step * (k - (len(arms) - 1) / 2), arm) for k, arm in enumerate(arms)]


def caption(metrics):
    """What the figure shows, in Markdown."""
    seeds = len(metrics.settings.seeds)
    return (
        f"**Which policy** (scale `{metrics.name}`, {seeds} seed{'s' * (seeds > 1)}, problems as 32 bits: "
        f"{', '.join(metrics.problems)}). P_F is trained by the bound in every arm; the arms differ in P_B and in what "
        f"trains it. Above: importance-weighted NLL minus that of `{REFERENCE}` of the same seed, whose P_B is uniform and "
        "whose loss of P_F is that of the learned arms; points are seeds, bars 95 % intervals of the mean; linear within "
        "±0.02 nats, logarithmic beyond. Below: Spearman's rank correlation of the mean step at which P_B empties an entry "
        "with the order of significance, in which the fixed order (1) empties them.\n"
    )
