"""A chart as Vega-Lite: lines with bands, and points that answer to the pointer.

A colour is written ``--name``: page.css says which it is in which theme. Every chart has the parameter ``hidden``, a
list of the series that its check boxes have switched off, and one more that its menu sets.
"""

__all__ = ["specification"]

# The arms without the consistency term: their lines are wide, so that those with it, which often lie on them, leave them
# visible.
WIDE = ("simple", "vlb")


def specification(rows, series, chart, menu, first=None, log=False, small=False):
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
    width = alt.condition(f"indexof({list(WIDE)}, datum.series) >= 0", alt.value(5), alt.value(1.8))
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
    # Without the rows altair is quick: it looks at everything that it is given. What comes first is drawn below.
    points = sorted(rows, key=lambda row: row["series"] not in WIDE)
    return {**drawn.to_dict(), "config": CONFIG, "datasets": {"points": [_rounded(row) for row in points]}}


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
