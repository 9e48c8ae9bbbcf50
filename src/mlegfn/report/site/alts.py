"""What a figure shows, in words, for those who cannot see it; its numbers come from the metrics."""

import csv
from pathlib import Path

from mlegfn.report.site.readings import listed


def of(figure, scale, settings, metrics):
    """The alt text of a figure (of figures.py) at a scale; ``metrics()``: the Metrics of its images or None."""
    describe = {
        "figure1": lambda: _figure1(metrics()),
        "figure2": lambda: _figure2(settings),
        "figure3": lambda: _figure3(settings),
        "families": lambda: _families(scale),
        "discrete": lambda: _discrete(settings),
        "divergences-curves": lambda: _curves(scale),
        "divergences-variance": lambda: _variance(scale),
        "divergences-banana": lambda: _densities(scale, "Banana"),
        "divergences-mixture": lambda: _densities(scale, "Mixture of nine Gaussians"),
        "divergences-alpha": _alpha,
    }.get(figure.name)
    said = _caption(scale, figure.name) if figure.item else describe() if describe else ""
    return f"{figure.title} at the scale {scale}. {said}".strip()


def _caption(scale, name):
    """A station's caption, which says what each of its panels shows, without its bold title."""
    path = Path("results", scale, "figures", f"{name}.md")
    text = path.read_text(encoding="utf-8").split("\n\n")[0] if path.is_file() else ""
    return " ".join(text.partition("). ")[2].replace("`", "").replace("**", "").split())


def _figure1(metrics):
    if metrics is None:
        return "Four panels: NLL against steps and evaluations, and differences to the baseline and to the control."
    steps = list(metrics.baseline)
    first, last = (metrics.baseline[step] for step in (steps[0], steps[-1]))
    text = (
        f"Four panels. In the first two the grey baseline falls from {first.bits_per_dim:.3f} bits/dim at step "
        f"{steps[0]} to {last.bits_per_dim:.3f} at step {steps[-1]}"
    )
    if "tbc" in metrics.arms:
        ends = [
            f"{metrics.per_image(c, 'tbc', metrics.steps[-1]).mean():.3f} from step {c}"
            for c in metrics.checkpoints
        ]
        text += f", and a short coloured line leaves it at each checkpoint and ends at {listed(ends)}"
    return f"{text}. The others show differences to the baseline, and of MLE-GFN and the bound to L_simple, with 95 % bars."


def _figure2(settings):
    names = settings.planar.problems if settings.planar else []
    return (
        f"Two rows of smoothed histograms, a column a problem: {listed(names)}. Above the data, below samples of "
        "MLE-GFN, with the same frame and colours."
    )


def _figure3(settings):
    shown = settings.trajectories
    return (
        f"Left, {shown.shown} rows, each a path from noise at t = {settings.diffusion.timesteps} to an image at t = 0 "
        f"in {shown.columns} pictures. Right, a sheet of {shown.samples} samples."
    )


def _families(scale):
    names = list(dict.fromkeys(row["family"] for row in _rows(scale, "tables/table1.csv")))
    return f"A row for each of {len(names)} families, its data beside its samples: {listed(names)}."


def _discrete(settings):
    block = settings.discrete
    return (
        f"Smoothed histograms, a column for each of {listed(block.problems)}; above the data, below it samples of "
        f"the arms {listed(block.arms)}."
    )


def _curves(scale):
    lowest = {}
    for row in _rows(scale, "tables/divergences.csv"):
        value = float(row["exact"])
        if row["task"] not in lowest or value < lowest[row["task"]][0]:
            lowest[row["task"]] = (
                value,
                f"{row['task']} {row['objective']} at {row['metric']} {value:.3g}",
            )
    ends = f" Lowest at the end: {listed(text for _, text in lowest.values())}." if lowest else ""
    return (
        "A panel a task, a falling curve an objective: the distance to the target on a log scale against "
        f"trajectories sampled, with the range over seeds.{ends}"
    )


def _variance(scale):
    rows = _rows(scale, "tables/divergences-gradients.csv")
    largest = {row["task"]: max(int(r["batch"]) for r in rows if r["task"] == row["task"]) for row in rows}
    ratios = [
        f"{row['task']}, {row['objective'].replace('_', ' ')}: {float(row['trace_over_none']):.3g}"
        for row in rows
        if row["control_variate"] == "both" and int(row["batch"]) == largest[row["task"]]
    ]
    return (
        "A panel a task and objective, a line a control variate: the trace falls with the batch size. With both "
        f"control variates it is this share of the trace without any, at the largest batch: {'; '.join(ratios)}."
    )


def _densities(scale, task):
    values = [
        f"{row['objective']} {float(row['exact']):.3g}"
        for row in _rows(scale, "tables/divergences.csv")
        if row["task"] == task
    ]
    return (
        f"Density maps on equal axes and colours: the target first, then the policy of each objective. "
        f"Their JSD to the target in nats, mean over seeds: {listed(values)}."
    )


def _alpha():
    return "Density maps in a row by α, from policies that cover every mode to policies that seek one; the table below has the numbers."


def _rows(scale, path):
    file = Path("results", scale, path)
    if not file.is_file():
        return []
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
