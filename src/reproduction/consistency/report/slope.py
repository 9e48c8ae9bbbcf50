"""The figure of signed λ: what NLL changes by, against the variance, against λ, and beside the bound."""

import numpy as np

from reproduction.drawing import style
from reproduction.drawing.tables import signed
from reproduction.verdicts.evidence import over_seeds

__all__ = ["SLOPE", "caption", "draw", "plot", "small"]

SLOPE = -0.5  # predicted
COLOURS = {"positive": ("#d55e00", "λ > 0"), "negative": ("#0072b2", "λ < 0"), "iwae": ("#009e73", "IWAE-K")}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw(metrics):
    """``{"pdf": bytes, "svg": …, "png": …}`` of :func:`plot`."""
    return style.draw(plot, metrics)


def group(arm):
    """Which colour an arm has; None for λ = 0."""
    if arm.kind == "iwae":
        return "iwae"
    return None if arm.value == 0 else "positive" if arm.value > 0 else "negative"


def small(metrics):
    """The names of the arms with the smallest |λ| > 0."""
    weights = {
        name: abs(arm.value) for name, arm in metrics.arms.items() if arm.kind == "bound" and arm.value
    }
    least = min(weights.values())
    return [name for name, weight in weights.items() if weight == least]


def moved(metrics):
    """The names of all arms but λ = 0."""
    return [name for name, arm in metrics.arms.items() if group(arm)]


def plot(metrics):
    """A matplotlib figure of four panels from :class:`reproduction.consistency.report.metrics.Metrics`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 5.2), layout="constrained")
    (whole, zoom), (signs, bound) = figure.subplots(2, 2)
    against_variance(whole, metrics, moved(metrics), "every arm")
    against_variance(zoom, metrics, small(metrics), f"|λ| = {_least(metrics):g} alone")
    against_weight(signs, metrics)
    against_nll(bound, metrics)
    legend(figure, metrics)
    return figure


def against_variance(axes, metrics, names, title):
    """ΔNLL against ΔVar: a point a problem, arm and seed, the predicted line and the fitted one."""
    scatter(axes, metrics, names, "log_w_variance", "nll")
    span = np.array(axes.get_xlim())
    axes.plot(span, SLOPE * span, color=style.INK, linewidth=1, label="slope −½, predicted", zorder=1)
    fitted = metrics.fit(names)
    label = f"fitted {signed(fitted.estimate, 3)}{_interval(fitted)}"
    axes.plot(span, fitted.estimate * span, color=style.GREY, linestyle="--", label=label, zorder=1)
    axes.set_xlim(span)
    axes.set(title=title, xlabel="ΔVar[log w], nats²", ylabel="ΔNLL, nats")
    axes.legend(loc="upper right")


def against_weight(axes, metrics):
    """ΔNLL against λ: a line a problem through its `bound` arms, mean over seeds, with bars; IWAE where it belongs."""
    for marker, problem in zip(MARKERS, metrics.problems):
        arms = sorted(
            (arm for arm in metrics.arms.values() if arm.kind == "bound"), key=lambda arm: arm.value
        )
        means = [metrics.change(problem, arm.name, "nll").mean() for arm in arms]
        axes.plot([arm.value for arm in arms], means, color=style.GREY, linewidth=0.8, zorder=1)
        for arm in metrics.arms.values():
            if group(arm) is None:
                continue
            errors = metrics.change(problem, arm.name, "nll", "standard_error")
            mean = over_seeds(metrics.change(problem, arm.name, "nll"), float(errors[0]))
            axes.errorbar(
                arm.sign, mean.estimate, mean.high - mean.estimate, marker=marker, color=COLOURS[group(arm)][0],
                markerfacecolor="white" if arm.kind == "iwae" else None, linewidth=0.8, capsize=0,
            )  # fmt: skip
    _cross(axes)
    axes.set(
        title="odd in λ, and IWAE among the λ < 0",
        xlabel="λ, or −(1 − 1/K)/2 of IWAE-K",
        ylabel="ΔNLL, nats",
    )


def against_nll(axes, metrics):
    """What the bound changes by against what NLL does: a point a problem, `bound` arm and seed."""
    names = [name for name in moved(metrics) if metrics.arms[name].kind == "bound"]
    scatter(axes, metrics, names, "nll", "elbo_nll")
    span = np.array(axes.get_xlim())
    axes.plot(span, span, color=style.INK, linewidth=0.8, linestyle=":", label="if the bound moved as NLL")
    axes.set_xlim(span)
    axes.set(title="the bound does not see it", xlabel="ΔNLL, nats", ylabel="Δbound of −log p, nats")
    axes.legend(loc="upper left")


def scatter(axes, metrics, names, x, y):
    """A point a problem, arm and seed."""
    for marker, problem in zip(MARKERS, metrics.problems):
        for name in names:
            colour = COLOURS[group(metrics.arms[name])][0]
            axes.scatter(
                metrics.change(problem, name, x), metrics.change(problem, name, y), s=11, marker=marker,
                color=colour, alpha=0.75, linewidths=0, zorder=2,
            )  # fmt: skip
    _cross(axes)


def legend(figure, metrics):
    """Colours and markers, below the panels."""
    from matplotlib.lines import Line2D

    empty = {"linestyle": "none"}
    shown = {group(arm) for arm in metrics.arms.values()} - {None}
    handles = [
        Line2D([], [], marker="o", color=colour, label=title, **empty)
        for name, (colour, title) in COLOURS.items()
        if name in shown
    ]
    handles += [
        Line2D([], [], marker=marker, color=style.GREY, label=problem, **empty)
        for marker, problem in zip(MARKERS, metrics.problems)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)


def caption(metrics):
    """What the figure shows, in Markdown."""
    value, settings = next(iter(metrics.signed.values())), metrics.settings
    whole, least = (metrics.fit(names) for names in (moved(metrics), small(metrics)))
    seeds = len(settings.seeds)
    return (
        f"**Signed λ** (scale `{metrics.name}`, T = {value['timesteps']}, {seeds} seed{'s' * (seeds > 1)}, problems: "
        f"{', '.join(metrics.problems)}). From the optimum of the bound, arms train for {settings.arms.steps} steps on "
        "−E[log w] + λ Var[log w], or on IWAE-K, on the same points and noise; Δ is against λ = 0 of the same seed. "
        f"Above: change of the importance-weighted NLL against that of Var[log w]; solid, the predicted slope −½; dashed, "
        f"least squares through the origin: {signed(whole.estimate, 3)}{_interval(whole)} over all arms (left), "
        f"{signed(least.estimate, 3)}{_interval(least)} over |λ| = {_least(metrics):g} (right){', with 95 % intervals over seeds' * (seeds > 1)}. "
        "Below, left: change of NLL against λ, means over seeds with 95 % bars, IWAE-K (hollow) at the λ that it is "
        "equal to at second order. Below, right: change of the bound, which at its optimum is of second order in λ, against "
        "that of NLL.\n"
    )


def _least(metrics):
    return abs(metrics.arms[small(metrics)[0]].value)


def _interval(interval):
    """`` [low, high]``, or nothing where there is none."""
    return "" if interval.low is None else f" [{signed(interval.low, 3)}, {signed(interval.high, 3)}]"


def _cross(axes):
    """Lines through the origin."""
    axes.axhline(0, color=style.GREY, linewidth=0.5, zorder=0)
    axes.axvline(0, color=style.GREY, linewidth=0.5, zorder=0)
