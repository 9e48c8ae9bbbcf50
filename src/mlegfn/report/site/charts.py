"""The interactive charts as Vega-Lite. A colour is written ``--name``: page.css says which it is in which theme.

Every chart has the parameter ``hidden``, a list of the series that its check boxes have switched off, and may have
one more that a menu sets.
"""

import numpy as np

from mlegfn.report import statistics
from mlegfn.report.divergence_metrics import OBJECTIVES

ARMS = {"baseline": "DDPM baseline", "simple": "L_simple", "vlb": "L_vlb", "tbc": "MLE-GFN"}


def nll(metrics):
    """Test NLL along training, the baseline and every arm from every checkpoint, against steps or evaluations."""
    rows = [
        _point("baseline", step, step, step * metrics.baseline_cost, [point.bits_per_dim])
        for step, point in metrics.baseline.items()
    ]
    for checkpoint in metrics.checkpoints:
        start, cost = metrics.baseline[checkpoint].bits_per_dim, checkpoint * metrics.baseline_cost
        for arm in metrics.arms:
            rows.append(_point(arm, checkpoint, checkpoint, cost, [start]))
            for step in metrics.steps:
                values = metrics.per_image(checkpoint, arm, step).mean(axis=1)
                spent = cost + metrics.spent(checkpoint, arm, step)
                rows.append(_point(arm, checkpoint, checkpoint + step, spent, values))
    arms = ["baseline", *metrics.arms]
    chart = {
        "x": ("training steps", "network evaluations (forward + backward)"),
        "y": "test NLL (bits/dim)",
        "tooltip": {
            "name": "model",
            "checkpoint": "from step",
            "steps": "step",
            "evaluations": "evaluations",
            "value": "bits/dim",
            "spread": "95 % over seeds",
        },
    }
    return {
        "spec": _spec(rows, arms, chart, menu="against"),
        "series": [{"key": arm, "title": ARMS[arm]} for arm in arms],
        "menu": {
            "name": "against",
            "label": "Against",
            "options": [("steps", "training steps"), ("evaluations", "network evaluations")],
        },
        "about": (
            f"Test NLL of {listed_arms(arms)} at the scale {metrics.name}, "
            f"{metrics.about['images']} test images; the table below has every value."
        ),
    }


def terms(metrics, raw):
    """What fine-tuning from a checkpoint changes in each term of the bound.

    ``raw``: {(checkpoint, arm, seed): the terms [T + 1] after the last step}, and under (checkpoint, None, None) the
    baseline's there.
    """
    rows = []
    for checkpoint in metrics.checkpoints:
        start = np.array(raw[checkpoint, None, None])
        for arm in metrics.arms:
            change = np.array([raw[checkpoint, arm, seed] for seed in metrics.seeds]) - start
            for t, values in enumerate(change.T):
                mean, low, high = _interval(values)
                rows.append(
                    {
                        "series": arm,
                        "name": ARMS[arm],
                        "checkpoint": str(checkpoint),
                        "line": arm,
                        "steps": t,
                        "value": mean * 1000,
                        "low": low * 1000,
                        "high": high * 1000,
                    }
                )
    names = [str(checkpoint) for checkpoint in metrics.checkpoints]
    chart = {
        "x": ("term of the bound, from decoder to prior",),
        "y": "change by fine-tuning (10⁻³ bits/dim)",
        "tooltip": {"name": "arm", "checkpoint": "from step", "steps": "term", "value": "10⁻³ bits/dim"},
    }
    return {
        "spec": _spec(rows, metrics.arms, chart, menu="checkpoint", first=names[-1], small=True),
        "series": [{"key": arm, "title": ARMS[arm]} for arm in metrics.arms],
        "menu": {
            "name": "checkpoint",
            "label": "Fine-tuned from step",
            "options": [(name, name) for name in reversed(names)],
        },
        "about": (
            f"Change of each term of the bound by fine-tuning with {listed_arms(metrics.arms)} at the scale "
            f"{metrics.name}; below zero is better, and the sum over the terms is the change of the NLL."
        ),
    }


def curves(metrics):
    """Distance to the target against trajectories sampled, an objective a line, a task at a time."""
    rows, names = [], []
    for task, value in metrics.tasks.items():
        for name in metrics.settings.tasks[task].objectives:
            names.append(name)
            found = [run["curve"] for run in metrics.runs(task, name)]
            for k, step in enumerate(found[0]["step"]):
                values = [curve["value"][k] for curve in found]
                rows.append(
                    {
                        "series": name,
                        "name": OBJECTIVES[name].title,
                        "task": task,
                        "line": name,
                        "steps": step * value["batch"],
                        "value": float(np.mean(values)),
                        "low": min(values),
                        "high": max(values),
                        "spread": f"{min(values):.3g} to {max(values):.3g}, {len(values)} seeds",
                    }
                )
    order = [name for name in OBJECTIVES if name in names]
    chart = {
        "x": ("trajectories sampled",),
        "y": "distance to the target (L1, or JSD in nats)",
        "tooltip": {
            "name": "objective",
            "steps": "trajectories",
            "value": "distance",
            "spread": "over seeds",
        },
    }
    tasks = list(metrics.tasks)
    return {
        "spec": _spec(rows, order, chart, menu="task", first=tasks[0], log=True),
        "series": [{"key": name, "title": OBJECTIVES[name].title} for name in order],
        "menu": {
            "name": "task",
            "label": "Task",
            "options": [
                (task, f"{metrics.tasks[task]['title']} ({metrics.tasks[task]['metric']})") for task in tasks
            ],
        },
        "about": (
            f"Distance to the target against trajectories sampled at the scale {metrics.name}, the mean over seeds "
            "and the range; lower is better. The table of every objective below has the final values."
        ),
    }


def listed_arms(arms):
    return ", ".join(ARMS[arm] for arm in arms)


def _point(arm, checkpoint, step, evaluations, values):
    mean, low, high = _interval(values)
    return {
        "series": arm,
        "name": ARMS[arm],
        "checkpoint": checkpoint,
        "line": arm if arm == "baseline" else f"{arm} {checkpoint}",
        "steps": step,
        "evaluations": round(evaluations),
        "value": mean,
        "low": low,
        "high": high,
        "spread": f"{low:.4f} to {high:.4f}" if high > low else "one model",
    }


def _interval(values):
    """(mean, low, high) by Student's t; of one value, that value three times."""
    mean, low, high = (float(each) for each in statistics.student(np.asarray(values)))
    return (mean, low, high) if low == low else (mean, mean, mean)


def _spec(rows, series, chart, menu, first=None, log=False, small=False):
    """The Vega-Lite specification of lines with bands and points that answer to the pointer."""
    import altair as alt

    steps = menu == "against"
    parameters = [alt.param(name="hidden", value=[])]
    parameters.append(alt.param(name=menu, value="steps" if steps else first))
    x = f"{menu} == 'steps' ? datum.steps : datum.evaluations" if steps else "datum.steps"
    short = "datum.value >= 10000 ? format(datum.value, '~s') : format(datum.value, ',')"
    title = None if steps else chart["x"][0]
    axis = alt.Axis(labelExpr=short, title=title, tickCount=6, labelOverlap=True)
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=small, nice=True)
    colour = alt.Color(
        "series:N",
        legend=None,
        scale=alt.Scale(domain=list(series), range=[f"--{name.replace('_', '-')}" for name in series]),
    )
    base = (
        alt.Chart(alt.NamedData("points"))
        .transform_filter("indexof(hidden, datum.series) < 0")
        .transform_calculate(x=x)
    )
    if not steps:
        base = base.transform_filter(f"datum.{menu} == {menu}")
    # Terms matter near the data, at small t: a root stretches what is there.
    across = alt.Scale(type="sqrt", nice=False) if small else alt.Scale(zero=False, nice=False)
    place = {"x": alt.X("x:Q", axis=axis, scale=across), "color": colour}
    detail = alt.Detail("line:N")
    y = alt.Y("value:Q", title=chart["y"], scale=scale, axis=alt.Axis(tickCount=6))
    band = base.mark_area(opacity=0.18).encode(
        **place, detail=detail, y=alt.Y("low:Q", title=chart["y"], scale=scale), y2="high:Q"
    )
    # The bound's line is wide, so that MLE-GFN's, which often lies on it, leaves it visible.
    width = alt.condition("datum.series == 'vlb'", alt.value(5), alt.value(1.8))
    line = base.mark_line().encode(**place, detail=detail, y=y, strokeWidth=width)
    near = alt.selection_point(
        name="near", on="pointerover", fields=["line", "x"], empty=False, clear="pointerout"
    )
    points = base.mark_point(filled=True, opacity=1).encode(
        **place, y=y, size=alt.condition(near, alt.value(110), alt.value(18 if small else 34), empty=False)
    )
    # What a pointer has to hit is larger than what is seen.
    tooltip = [_tooltip(alt, field, title) for field, title in chart["tooltip"].items()]
    targets = base.mark_point(filled=True, opacity=0, size=240).encode(**place, y=y, tooltip=tooltip)
    layers = [band, line, points, targets.add_params(near)]
    if small:
        layers.insert(0, alt.Chart(alt.Data(values=[{"y": 0}])).mark_rule(size=1).encode(y="y:Q"))
    drawn = (
        alt.layer(*layers).add_params(*parameters).properties(width="container", height=280 if small else 340)
    )
    # Without the rows altair is quick: it looks at everything that it is given.
    return {**drawn.to_dict(), "config": CONFIG, "datasets": {"points": [_rounded(row) for row in rows]}}


# Colours by name, as above; the rest is the page's own type.
CONFIG = {
    "background": "transparent",
    "font": "--sans",
    "view": {"stroke": None},
    "rule": {"color": "--ink"},
    "axis": {
        "labelColor": "--ink",
        "titleColor": "--ink",
        "domainColor": "--rule",
        "tickColor": "--rule",
        "gridColor": "--grid",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
}


def _tooltip(alt, field, title):
    numbers = {"value": ".4f", "steps": ",", "evaluations": ",", "low": ".4f", "high": ".4f"}
    if field in numbers:
        return alt.Tooltip(f"{field}:Q", title=title, format=numbers[field])
    return alt.Tooltip(f"{field}:N", title=title)


def _rounded(row):
    """Six digits are more than a screen shows, and half the bytes."""
    return {key: float(f"{v:.6g}") if isinstance(v, float) else v for key, v in row.items()}
