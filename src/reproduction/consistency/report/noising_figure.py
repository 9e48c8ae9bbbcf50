"""The figure of *learned noising*: what each arm changes beside fixed rates, and one problem's learned rates."""

import numpy as np

from reproduction.consistency.noising_arms import ARMS, REFERENCE
from reproduction.drawing import style
from reproduction.verdicts.evidence import over_seeds

__all__ = ["caption", "draw", "plot"]

LINEAR = 0.2  # nats: a point in the plane has tenths of a nat to gain, an image some nats

# The palette of drawing.style; the shape says it a second time.
LOOKS = {
    "fixed": ("#262626", "P"),
    "pathwise": ("#8c8c8c", "s"),
    "score": ("#0072b2", "^"),
    "tbc": ("#d55e00", "o"),
}


def draw(metrics):
    """``{"pdf": bytes, "svg": …, "png": …}`` of :func:`plot`."""
    return style.draw(plot, metrics)


def plot(metrics):
    """A matplotlib figure of three panels from :class:`reproduction.consistency.report.policy_metrics.NoisingMetrics`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.5, 1))
    above = figure.add_subplot(grid[0, 0])
    below = figure.add_subplot(grid[1, 0], sharex=above)
    changes(above, metrics, "elbo_nll", "bound of −log p, minus that with fixed rates")
    changes(below, metrics, "nll", "importance-weighted NLL, likewise")
    below.set_xticks(range(len(metrics.problems)), list(metrics.problems), rotation=30, ha="right")
    above.tick_params(labelbottom=False)
    rates(figure.add_subplot(grid[:, 1]), metrics, shown_problem(metrics))
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def changes(axes, metrics, key, title):
    """A column a problem, an arm beside the other; a small point a seed, the mean with its 95 % interval."""
    arms, lowest = [arm for arm in metrics.arms if arm != REFERENCE], 0.0
    for number, problem in enumerate(metrics.problems):
        for order, arm in enumerate(arms):
            place = number + 0.22 * (order - (len(arms) - 1) / 2)
            colour, marker = LOOKS[arm]
            values = metrics.change(problem, arm, key)
            mean = over_seeds(values, float(metrics.change(problem, arm, key, "standard_error")[0]))
            lowest = min(lowest, values.min(), mean.low)
            axes.scatter(
                np.full(len(values), place), values, s=5, color=colour, alpha=0.5, linewidths=0, zorder=1
            )
            axes.errorbar(
                place, mean.estimate, mean.high - mean.estimate, color=colour, marker=marker, linewidth=0.8,
                capsize=0, linestyle="none", label=ARMS[arm] if number == 0 else None, zorder=2,
            )  # fmt: skip
    axes.axhline(0, color=style.INK, linewidth=0.8, zorder=0)
    if lowest < -LINEAR:  # a symmetric logarithmic axis has no round ticks inside its linear part
        axes.set_yscale("symlog", linthresh=LINEAR)
    axes.set_ylim(bottom=1.5 * lowest - 0.02)
    axes.set(title=title, ylabel="nats")


def shown_problem(metrics):
    """The problem whose rates are drawn: the first of points in the plane."""
    return next(iter(metrics.problems))


def rates(axes, metrics, problem):
    """log-SNR against t: the fixed one, and those of the first seed's learned P_B, a line a coordinate."""
    for arm in metrics.arms:
        table = np.array(metrics.runs(problem, arm)[0]["log_snr"])
        colour = LOOKS[arm][0]
        for column in range(1 if arm == REFERENCE else table.shape[1]):
            axes.plot(
                range(1, len(table) + 1), table[:, column], color=colour,
                linestyle="-" if column == 0 else "--", linewidth=1.6 if arm == REFERENCE else 1.0,
            )  # fmt: skip
    axes.set(title=f"rates: {problem}", xlabel="t", ylabel="log ᾱ/(1 − ᾱ)")


def caption(metrics):
    """What the figure shows, in Markdown."""
    seeds = len(metrics.settings.seeds)
    return (
        f"**Learned noising** (scale `{metrics.name}`, T = {metrics.settings.diffusion.timesteps}, {seeds} "
        f"seed{'s' * (seeds > 1)}, problems: {', '.join(metrics.problems)}). P_F is trained by the bound in every arm; the arms "
        "differ in what trains the rates of P_B, whose end points are fixed. Left: the bound and the importance-weighted NLL "
        "minus those with fixed rates of the same seed; points are seeds, bars 95 % intervals of the mean; linear within ±0.2 nats, "
        "logarithmic beyond. Right: the log "
        f"signal-to-noise ratio of the fixed rates (black) and of the learned ones on {shown_problem(metrics)}, first seed; solid "
        "and dashed, the two coordinates.\n"
    )
