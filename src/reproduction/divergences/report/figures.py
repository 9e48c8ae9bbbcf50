"""The learning curves of every objective, and the covariance of the divergences' gradients."""

import numpy as np

from reproduction.divergences.report.metrics import OBJECTIVES, VARIATES
from reproduction.drawing import style
from reproduction.verdicts.evidence import normal

# Okabe & Ito's palette and their grey; an f-trajectory balance has its divergence's colour, and kinds have line styles.
COLOURS = {
    "trajectory_balance": "#000000",
    "log_variance": "#e69f00",
    "detailed_balance": "#56b4e9",
    "sub_trajectory_balance": "#d9c800",  # Okabe & Ito's yellow, darker: theirs is lost on white
    "flow_matching": "#999999",
    "reverse_kl": "#0072b2",
    "forward_kl": "#d55e00",
    "renyi": "#cc79a7",
    "tsallis": "#009e73",
    "f_forward_kl": "#d55e00",
    "f_tsallis": "#009e73",
}
STYLES = {"balance": (0, (3.5, 1.5)), "divergence": "-", "f": (0, (5, 1.2, 1, 1.2))}
# Colour and marker of a control variate; the paper's by our estimate of the scalar are dashed.
MARKS = {
    "none": ("#000000", "o", "-"),
    "leave_one_out": ("#e69f00", "s", "-"),
    "score": ("#56b4e9", "^", "-"),
    "both": ("#0072b2", "D", "-"),
    "score_signed": ("#56b4e9", "^", "--"),
    "both_signed": ("#0072b2", "D", "--"),
    "combined": ("#d55e00", "v", "-"),
}
COLUMNS, PANEL = 3, 1.75  # panels in a row, and their height in inches


def curves(metrics):
    """A matplotlib figure: a panel a task."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = -(-len(metrics.tasks) // COLUMNS)
    figure = Figure(figsize=(style.WIDTH, PANEL * rows + 0.75), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08)  # inches
    grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, (task, value) in zip(grid, metrics.tasks.items()):
        for name in metrics.task_settings[task].objectives:
            _curve(axes, [run["curve"] for run in metrics.runs(task, name)], value["batch"], name)
        axes.axhline(value["floor"]["value"], color=style.INK, linestyle=":", linewidth=0.9, zorder=1)
        unit = ", nats" if value["metric"] == "JSD" else ""
        axes.set(yscale="log", xlim=(0, value["batch"] * value["steps"]), ylabel=f"{value['metric']}{unit}")
        axes.set_title(value["title"])
        axes.xaxis.set_major_formatter(lambda x, _: _short(x))
        axes.locator_params(axis="x", nbins=4)
        _decades(axes)
    for axes in grid[len(metrics.tasks) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(metrics.tasks) - COLUMNS) : len(metrics.tasks)]:
        axes.set_xlabel("trajectories sampled")
    names = [name for name in OBJECTIVES if any(metrics.has(task, name) for task in metrics.tasks)]
    lines = [
        Line2D(
            [], [], color=COLOURS[name], linestyle=STYLES[OBJECTIVES[name].kind], label=OBJECTIVES[name].title
        )
        for name in names
    ]
    lines.append(
        Line2D([], [], color=style.INK, linestyle=":", linewidth=0.9, label="floor of a sampled metric")
    )
    figure.legend(handles=lines, loc="outside lower center", ncols=4, handlelength=3)
    return figure


def _curve(axes, runs, batch, name):
    trajectories = np.array(runs[0]["step"]) * batch
    values = np.array([curve["value"] for curve in runs])
    axes.plot(trajectories, values.mean(0), color=COLOURS[name], linestyle=STYLES[OBJECTIVES[name].kind])
    axes.fill_between(
        trajectories, values.min(0), values.max(0), color=COLOURS[name], alpha=0.15, linewidth=0
    )


def _short(x):
    """``20k``, ``1.5M``: trajectories."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:.3g}{letter}"
    return f"{x:.0f}"


def _decades(axes):
    """Labels at 1, 2 and 5 of each decade where there are few, else at the decades."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axes.get_ylim()
    several = np.log10(high / low) > 1.7
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if several else (1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:.6g}" if y >= 1e-3 else f"{y:.0e}".replace("e-0", "e−"))


def curves_caption(metrics):
    floors = "; ".join(
        f"{value['title']}: {value['floor']['value']:.3g} from {value['floor']['samples']:,} samples"
        for value in metrics.tasks.values()
    )
    seeds = sorted({len(own.seeds) for own in metrics.task_settings.values()})
    over = " to ".join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1])))
    return (
        f"**Distance to the target against trajectories sampled** (scale `{metrics.name}`): the mean over {over} "
        f"seed{'s' * (seeds[-1] > 1)}, and the range from lowest to highest. It is computed from the policy's own "
        "distribution, so a curve may fall below the dotted line: what a Monte-Carlo estimate shows of the target "
        f"itself ({floors}). Dashed: balance losses; solid: divergences; dash-dotted: f-trajectory balance."
    )


def variance(metrics):
    """A matplotlib figure: a row a task, a column an objective."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    everything = [row for value in metrics.gradients.values() for row in value["rows"]]
    names = [name for name in OBJECTIVES if any(row["objective"] == name for row in everything)]
    variates = [name for name in VARIATES if any(row["control_variate"] == name for row in everything)]
    tasks = metrics.gradients
    figure = Figure(figsize=(style.WIDTH, PANEL * len(tasks) + 0.7), layout="constrained")
    grid = figure.subplots(len(tasks), len(names), squeeze=False, sharex="row")
    for line, value in zip(grid, tasks.values()):
        for axes, name in zip(line, names):
            rows = [row for row in value["rows"] if row["objective"] == name]
            axes.set(xscale="log", yscale="log")
            for variate in variates:
                _line(axes, [row for row in rows if row["control_variate"] == variate], variate)
            _guide(axes, rows)
            _ticks(axes, sorted({row["batch"] for row in rows}))
            if value is next(iter(tasks.values())):
                axes.set_title(OBJECTIVES[name].title)
        line[0].set_ylabel(f"{value['title']}: trace")
    for axes in grid[-1]:
        axes.set_xlabel("batch, trajectories")
    lines = [Line2D([], [], label=VARIATES[name], **_looks(name)) for name in variates]
    lines.append(Line2D([], [], color=style.GREY, linestyle=":", label="∝ 1/batch"))
    figure.legend(handles=lines, loc="outside lower center", ncols=4, handlelength=3)
    return figure


def _line(axes, rows, variate):
    rows = sorted(rows, key=lambda row: row["batch"])
    half = [normal(0.0, row["trace_standard_error"]).high for row in rows]
    batches, traces = [row["batch"] for row in rows], [row["trace"] for row in rows]
    axes.errorbar(batches, traces, half, elinewidth=0.7, **_looks(variate))


def _looks(variate):
    """Hollow marks that shrink from one to the next, so that what lies on top of another hides nothing."""
    colour, marker, line = MARKS[variate]
    return {
        **{"color": colour, "marker": marker, "linestyle": line, "linewidth": 1, "markerfacecolor": "none"},
        **{"markersize": 6 - 0.6 * list(MARKS).index(variate), "markeredgewidth": 0.8},
    }


def _guide(axes, rows):
    """1/N, above all lines."""
    if rows:
        batches = np.array(sorted({row["batch"] for row in rows}), dtype=float)
        first = 2 * max(row["trace"] * row["batch"] for row in rows) / batches[0]
        axes.plot(
            batches, first * batches[0] / batches, color=style.GREY, linestyle=":", linewidth=1, zorder=1
        )


def _ticks(axes, batches):
    if batches:  # matplotlib finds no limits for one point on a log axis
        axes.set_xlim(batches[0] / 1.4, batches[-1] * 1.4)
    axes.minorticks_off()
    _decades(axes)
    shown = batches if len(batches) <= 4 else batches[:: -(-len(batches) // 4)]
    axes.set_xticks(shown, [str(batch) for batch in shown])


def variance_caption(metrics):
    about = "; ".join(
        f"{value['title']}: a policy after {value['trained_steps']:,} steps, {value['repeats']:,} batches of each size"
        for value in metrics.gradients.values()
    )
    return (
        f"**Trace of the gradient's covariance against the batch size** (scale `{metrics.name}`), with and without "
        f"control variates, on log scales; bars: 95 %, mostly smaller than the marks. {about}. “Leave-one-out”: a "
        "baseline on the second term f ∇log P_F; “score”: a score function on the first, ∇f, its scalar estimated as the "
        "paper does from sums over the batch; “both”: the paper's; “signed”: our estimate of the scalar; “combined”: "
        "our one leave-one-out baseline for both terms."
    )
