"""Figure 1: test NLL along training, and from every checkpoint along fine-tuning; with the controls."""

import numpy as np

from reproduction.drawing import style
from reproduction.images.report.comparison import budgets, curve, differences
from reproduction.verdicts import statistics

ARM = "simple_tbc"  # the paper's
NAMES = {  # of what panel d compares with L_simple trained on
    "simple_tbc": "MLE-GFN",
    "reweighted": r"$L_\mathrm{simple}$ + μ·bound",
    "vlb": "bound",
    "vlb_tbc": "bound + λ·TBC",
}


def plot(metrics):
    """The figure of four panels (see :func:`caption`)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 5.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05, wspace=0.03, hspace=0.03)
    axes = figure.subplots(2, 2)
    _along(axes[0, 0], metrics, "steps")
    _along(axes[0, 1], metrics, "evaluations")
    axes[0, 1].sharey(axes[0, 0])
    _against_baseline(axes[1, 0], metrics)
    _controls(axes[1, 1], metrics)
    axes[0, 0].set_title("a  NLL against training steps")
    axes[0, 1].set_title("b  … against network evaluations")
    axes[1, 0].set_title("c  MLE-GFN minus baseline, equal steps")
    axes[1, 1].set_title(r"d  controls: minus $\mathbf{L}_\mathbf{simple}$, equal steps")
    _legend(figure, metrics)
    return figure


def _colours(metrics):
    return dict(zip(metrics.checkpoints, style.checkpoint_colours(len(metrics.checkpoints))))


def _along(axes, metrics, unit):
    """The baseline in grey and the arm from each checkpoint in colour, against steps or evaluations."""
    factor = metrics.baseline_cost if unit == "evaluations" else 1
    steps = np.array(metrics.baseline_steps)
    means = [metrics.baseline_per_image(step).mean(axis=1) for step in steps]
    _line(axes, steps * factor, means, style.GREY)
    axes.plot(
        steps * factor,
        [row.mean() for row in means],
        color=style.GREY,
        marker="o",
        linestyle="none",
        zorder=2,
    )
    if ARM in metrics.arms:
        for checkpoint, colour in _colours(metrics).items():
            x, y = curve(metrics, checkpoint, ARM, unit)
            _line(axes, x + checkpoint * factor, [values.mean(axis=1) for values in y], colour)
            axes.plot(
                x[-1] + checkpoint * factor,
                y[-1].mean(),
                color=colour,
                marker="o",
                markersize=4,
                markeredgecolor="white",
                markeredgewidth=0.5,
                zorder=4,
            )
    axes.set_xlabel("training steps" if unit == "steps" else "network evaluations (forward + backward)")
    axes.set_ylabel("test NLL (bits/dim)")
    _count_axis(axes)


def _line(axes, x, values, colour):
    """The mean of ``values`` [P][S] with its band over seeds, Student's interval."""
    mean, low, high = np.array([statistics.student(row) for row in values]).T
    low, high = np.where(np.isnan(low), mean, low), np.where(np.isnan(high), mean, high)
    axes.plot(x, mean, color=colour, zorder=3)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0, zorder=2)


def _against_baseline(axes, metrics):
    """Bits/dim of the arm minus the baseline's at equal steps, against the steps since the checkpoint."""
    values = []
    if ARM in metrics.arms:
        for checkpoint, colour in _colours(metrics).items():
            x = budgets(metrics, checkpoint, ARM, "baseline")
            y = [differences(metrics, checkpoint, ARM, "baseline", n).mean(axis=1) for n in x]
            values += [row.mean() for row in y]
            _line(axes, np.array([0, *x]), [np.zeros(1), *y], colour)
            dots = x if len(x) <= 8 else x[-1:]
            axes.plot(
                dots,
                [row.mean() for row in y[-len(dots) :]],
                color=colour,
                marker="o",
                linestyle="none",
                zorder=4,
            )
    _zero(axes)
    _difference_axis(axes, values)
    axes.set_xlabel("fine-tuning steps since the checkpoint")
    _count_axis(axes)


def _controls(axes, metrics):
    """Per checkpoint, each arm minus ``simple`` along fine-tuning, side by side: paired, with intervals at the last step."""
    arms = [arm for arm in metrics.arms if arm != "simple"] if "simple" in metrics.arms else []
    last, values = metrics.steps[-1], []
    for slot, checkpoint in enumerate(metrics.checkpoints):
        if slot % 2:
            axes.axvspan(slot - 0.5, slot + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
        for number, arm in enumerate(arms):
            place = slot - 0.45 + 0.82 * (number + 0.1) / len(arms)
            values += _control(axes, metrics, checkpoint, arm, place, 0.82 * 0.8 / len(arms) / last)
    _zero(axes)
    _difference_axis(axes, values)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.5, len(metrics.checkpoints) - 0.5)
    axes.set_xticks(range(len(metrics.checkpoints)), [style.short(c) for c in metrics.checkpoints])
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(f"checkpoint; each line: fine-tuning steps 0 to {style.short(last)}")
    if arms:
        _arms_legend(axes, arms)
    else:
        axes.text(0.5, 0.6, "no control arms at this scale", transform=axes.transAxes, ha="center")


def _control(axes, metrics, checkpoint, arm, place, unit):
    """Draw one arm from one checkpoint, from ``place`` on, ``unit`` a step; returns the values that it spans."""
    colour, marker = style.ARMS[arm]
    x = [n for n in budgets(metrics, checkpoint, arm, "simple") if n <= metrics.steps[-1]]
    intervals = [statistics.paired(differences(metrics, checkpoint, arm, "simple", n)) for n in x]
    mean = [0, *(interval.estimate for interval in intervals)]
    axes.plot(place + unit * np.array([0, *x]), mean, color=colour, linewidth=1.1, zorder=3)
    if not intervals:
        return mean
    axes.errorbar(
        place + unit * x[-1],
        mean[-1],
        yerr=intervals[-1].high - mean[-1],
        color=colour,
        marker=marker,
        elinewidth=1,
        capsize=1.5,
        capthick=0.8,
        zorder=4,
    )
    return [*mean, intervals[-1].low, intervals[-1].high]


def _arms_legend(axes, arms):
    """A legend above every bar, in two columns."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=style.ARMS[a][0], marker=style.ARMS[a][1], label=NAMES[a]) for a in arms]
    low, high = axes.get_ylim()
    room = 0.12 if len(arms) < 3 else 0.22
    axes.set_ylim(low, high + room * (high - low))
    axes.legend(handles=handles, loc="upper left", ncols=2, borderaxespad=0.1, columnspacing=1.2)


def _zero(axes):
    axes.axhline(0, color=style.INK, linewidth=0.8, zorder=1.5)


def _difference_axis(axes, values):
    """Label the y axis; thousandths where the differences are that small."""
    from matplotlib.ticker import FuncFormatter

    small = max((abs(v) for v in values), default=1) < 0.05
    factor = 1000 if small else 1
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v * factor:g}".replace("-", "−")))
    axes.set_ylabel("difference (10⁻³ bits/dim)" if small else "difference (bits/dim)")


def _count_axis(axes):
    """An x axis of counts from 0, as ``5000``, ``20k``, ``1.5M``."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    def text(v, _):
        unit, sign = (1e6, "M") if v >= 1e6 else (1e3, "k") if v >= 1e4 else (1, "")
        return f"{v / unit:g}{sign}"

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(text))
    axes.set_xlim(left=0)


def _legend(figure, metrics):
    """One legend for the panels a, b and c: the baseline and the colour of each checkpoint."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=style.GREY, marker="o", label="DDPM baseline")]
    if ARM in metrics.arms:
        handles.append(Line2D([], [], linestyle="none", label="MLE-GFN from step"))
        handles += [
            Line2D([], [], color=colour, marker="o", label=style.short(checkpoint))
            for checkpoint, colour in _colours(metrics).items()
        ]
    tight = len(handles) > 8
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=len(handles),
        columnspacing=0.7 if tight else 1.2,
        handlelength=1.0 if tight else 1.4,
        handletextpad=0.3,
    )


def caption(metrics):
    """What the figure shows, in Markdown."""
    about, seeds = metrics.about, len(metrics.seeds)
    band = (
        f"Bands: 95 % Student interval of the mean over {seeds} pretraining seeds, each with fine-tunes of its own."
        if seeds > 1
        else "One pretraining seed, so no bands."
    )
    bars = (
        f"bars: 95 % interval over {seeds} pretraining seeds and {about['images']} images (half-widths joined in quadrature)"
        if seeds > 1
        else f"bars: 95 % interval over {about['images']} images of the one seed"
    )
    return f"""**Figure 1** (scale `{metrics.name}`, data `{metrics.data}`). Test NLL in bits/dim, unclipped, \
{about["decoder"]} decoder CDF, T = {about["timesteps"]}, reverse variances `{about["variance"]}`, \
{about["images"]} test images with the same noise for every model.
**a** Grey: the DDPM baseline where it was saved. Colour: MLE-GFN (arm `simple_tbc`: L_simple + λ·TBC) fine-tuned from each \
checkpoint for {metrics.steps[-1]} steps; the dot is its end.
**b** The same against network evaluations, forward + backward, an evaluation of one image counted once: \
a coloured line below the grey one is a gain at equal cost.
**c** MLE-GFN minus the baseline at equal steps, paired by image and seed; below zero MLE-GFN is better. Between saved \
steps the baseline is interpolated linearly, which for a convex curve is a little too high and flatters MLE-GFN; \
learning rate and weight averaging differ too. Panel d is the fair comparison.
**d** Every arm minus `simple` (the baseline's loss trained on), at equal steps and equal network evaluations, paired by \
seed and image: same data order, same noise, each arm's rate, warm-up and λ chosen on validation images from equally many \
combinations. `reweighted` adds a gradient of the bound as long as that of the consistency term; {bars}.{_cost(metrics)}
{band}
"""


def _cost(metrics):
    """What a step of the arm costs against one of ``simple``."""
    if not {"simple", ARM} <= set(metrics.arms):
        return ""
    first = metrics.checkpoints[0]
    ratio = metrics.spent(first, ARM, 1) / metrics.spent(first, "simple", 1)
    if ratio == 1:
        return " A step of each costs the same network evaluations."
    return f" A step of `{ARM}` costs {ratio:.3g} times the network evaluations of one of `simple`."
