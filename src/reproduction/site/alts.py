"""What a figure shows, in words, for those who cannot see it; its numbers come from the tables."""

from reproduction.site.artifacts import rows
from reproduction.site.readings import listed

__all__ = ["of"]


def of(figure, scale, settings):
    """The alt text of a figure (of sections.py) at a scale.

    :param settings: the block of params.yaml of the figure's experiment and scale; None where it has none any more
    """
    if figure.experiment == "gallery":
        said = _caption(figure.caption(scale))
    else:
        describe = {
            "figure1": lambda: _figure1(scale),
            "figure2": lambda: _figure2(scale),
            "figure3": lambda: _figure3(settings),
            "families": lambda: _families(scale),
            "bits": lambda: _bits(scale),
            "slope": lambda: _slope(scale),
            "policy": lambda: _policy(scale),
            "noising": lambda: _noising(scale),
            "curves": lambda: _curves(scale),
            "variance": lambda: _variance(scale),
            "banana": lambda: _densities(scale, "Banana"),
            "mixture": lambda: _densities(scale, "Mixture of nine Gaussians"),
            "alpha": _alpha,
        }
        said = describe[figure.name]()
    return f"{figure.title} at the scale {scale}. {said}".strip()


def _caption(path):
    """A station's caption, which says what each of its panels shows, without its bold title."""
    text = path.read_text(encoding="utf-8").split("\n\n")[0] if path.is_file() else ""
    return " ".join(text.partition("). ")[2].replace("`", "").replace("**", "").split())


def _figure1(scale):
    nll = rows(scale, "images", "nll")
    baseline = [row for row in nll if row["arm"] == "baseline"]
    if not baseline:
        return "Four panels: NLL against steps and evaluations, and differences to the baseline and to the control."
    first, last = baseline[0], baseline[-1]
    text = (
        "Four panels. In the first two the grey baseline, a mean over pretraining seeds, goes from "
        f"{float(first['bits_per_dim']):.3f} bits/dim at step {first['step']} to {float(last['bits_per_dim']):.3f} at step "
        f"{last['step']}"
    )
    ends = {
        row["checkpoint"]: row for row in nll if row["arm"] == "simple_tbc"
    }  # the paper's, a row a checkpoint
    if ends:
        values = [f"{float(row['bits_per_dim']):.3f} from step {step}" for step, row in ends.items()]
        text += f", and a short coloured line leaves it at each checkpoint and ends at {listed(values)}"
    return f"{text}. The others show its differences to the baseline, and those of every arm to L_simple, with 95 % bars."


def _figure2(scale):
    names = dict.fromkeys(row["problem"] for row in rows(scale, "planar", "planar"))
    return (
        f"Two rows of smoothed histograms, a column a problem: {listed(names)}. Above the data, below samples of "
        "MLE-GFN, with the same frame and colours."
    )


def _figure3(settings):
    if settings is None:
        return "Left, a row a path from noise to an image. Right, a sheet of samples."
    shown = settings.trajectories
    return (
        f"Left, {shown.shown} rows, each a path from noise at t = {settings.diffusion.timesteps} to an image at t = 0 "
        f"in {shown.columns} pictures. Right, a sheet of {shown.samples} samples."
    )


def _families(scale):
    names = list(dict.fromkeys(row["family"] for row in rows(scale, "families", "table1")))
    return f"A row for each of {len(names)} families, its data beside its samples: {listed(names)}."


def _bits(scale):
    table = rows(scale, "bits", "bits")
    problems, arms = (dict.fromkeys(row[key] for row in table) for key in ("problem", "arm"))
    return (
        f"Smoothed histograms, a column for each of {listed(problems)}; above the data, below it samples of "
        f"the arms {listed(arms)}."
    )


def _slope(scale):
    changed = {}
    for row in rows(scale, "consistency", "signed"):
        changed.setdefault(row["arm"], []).append(float(row["nll_change"]))
    means = [f"{arm} {sum(values) / len(values):+.4f}" for arm, values in changed.items() if any(values)]
    return (
        "Four panels of points: what NLL changes by against what the variance of log w does, with the predicted line of "
        "slope −½ and the fitted one, for every arm and for the smallest λ; NLL against λ; and the bound against NLL. "
        f"Mean change of NLL in nats by arm: {listed(means)}."
    )


def _policy(scale):
    changed = {}
    for row in rows(scale, "consistency", "policy"):
        changed.setdefault(row["arm"], []).append(float(row["nll_change"]))
    means = [f"{arm} {sum(values) / len(values):+.4f}" for arm, values in changed.items() if any(values)]
    return (
        "Two panels, a column a problem, a marker an arm: NLL minus that of a uniform P_B with the same loss of P_F, and "
        "the rank correlation of the order in which P_B empties the entries with that of significance. "
        f"Mean change of NLL in nats by arm: {listed(means)}."
    )


def _noising(scale):
    changed = {}
    for row in rows(scale, "consistency", "noising"):
        changed.setdefault(row["arm"], []).append(float(row["nll_change"]))
    means = [f"{arm} {sum(values) / len(values):+.4f}" for arm, values in changed.items() if any(values)]
    return (
        "Left, a column a problem, a marker an arm: the bound and NLL minus those with fixed rates; right, the log "
        f"signal-to-noise ratio of fixed and learned rates. Mean change of NLL in nats by arm: {listed(means)}."
    )


def _curves(scale):
    lowest = {}
    for row in rows(scale, "divergences", "divergences"):
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
    traces = rows(scale, "divergences", "gradients")
    largest = {
        row["task"]: max(int(r["batch"]) for r in traces if r["task"] == row["task"]) for row in traces
    }
    ratios = [
        f"{row['task']}, {row['objective'].replace('_', ' ')}: {float(row['trace_over_none']):.3g}"
        for row in traces
        if row["control_variate"] == "both" and int(row["batch"]) == largest[row["task"]]
    ]
    return (
        "A panel a task and objective, a line a control variate: the trace falls with the batch size. With both "
        f"control variates it is this share of the trace without any, at the largest batch: {'; '.join(ratios)}."
    )


def _densities(scale, task):
    values = [
        f"{row['objective']} {float(row['exact']):.3g}"
        for row in rows(scale, "divergences", "divergences")
        if row["task"] == task
    ]
    return (
        f"Density maps on equal axes and colours: the target first, then the policy of each objective. "
        f"Their JSD to the target in nats, mean over seeds: {listed(values)}."
    )


def _alpha():
    return "Density maps in a row by α, from policies that cover every mode to policies that seek one; the table below has the numbers."
