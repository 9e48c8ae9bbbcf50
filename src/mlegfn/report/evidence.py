"""What the metrics say about a claim: its parts, each with an interval. One function a kind of test."""

from typing import NamedTuple

import numpy as np

from mlegfn.report import statistics
from mlegfn.report.comparison import budgets, differences
from mlegfn.report.metrics import planar_values
from mlegfn.report.statistics import Interval


class Part(NamedTuple):
    """One thing that a claim says: where, the interval of a quantity that must be negative, and whether it is."""

    where: str
    interval: Interval
    holds: bool


class Evidence(NamedTuple):
    """What a test found: the parts that could be tested, those that could not, and what was meant."""

    parts: list
    untested: list
    unit: str
    statement: str
    noun: str | None  # what a part is; None where there is one, a mean
    notes: str


def finetune_below(metrics, test):
    """Parts: checkpoints (× measured steps with ``at: every``), paired by seed and image."""
    absent = [arm for arm in (test.arm, test.reference) if arm in ("simple", "vlb", "tbc")]
    absent = [f"arm {arm}" for arm in absent if arm not in metrics.arms]
    parts, untested, arrays = [], list(absent), {}
    for checkpoint in () if absent else metrics.checkpoints:
        places = budgets(metrics, checkpoint, test.arm, test.reference, test.equal)
        if not places:
            untested.append(f"checkpoint {checkpoint} (`{test.arm}` and `{test.reference}` do not overlap)")
            continue
        for x in places[-1:] if test.at == "last" else places:
            where = f"checkpoint {checkpoint} + {x:,.0f} {test.equal}"
            arrays[where] = differences(metrics, checkpoint, test.arm, test.reference, x, test.equal)
    if test.checkpoints == "mean" and untested:
        arrays = {}  # the mean over some of the checkpoints is not the mean over all
    elif test.checkpoints == "mean":
        arrays = {f"mean of {len(arrays)} checkpoints": np.mean(list(arrays.values()), axis=0)}
    for where, values in arrays.items():
        interval = statistics.paired(values)
        parts.append(Part(where, interval, interval.high < 0))
    one = len(metrics.seeds) == 1
    covers = "one seed: the interval covers images only" if one else "interval over seeds and images"
    if test.reference == "baseline":
        covers += f"; a straight line lies above a convex curve, which favours `{test.arm}` a little"
    noun = None if test.checkpoints == "mean" else "checkpoint" if test.at == "last" else "measured point"
    return Evidence(
        parts, untested, "bits/dim", _finetune_statement(test), noun, f"{covers}; one pre-training run"
    )


def _finetune_statement(test):
    how = {"baseline": " (linear between saved steps)", "baseline_next": " (its next saved step)"}
    when = "after the last" if test.at == "last" else "at every measured"
    where = "at every checkpoint" if test.checkpoints == "all" else "mean over checkpoints"
    return (
        f"test NLL of `{test.arm}` minus `{test.reference}`{how.get(test.reference, '')} at equal {test.equal}, "
        f"{when} fine-tuning step that both reach, {where}: 95 % interval below 0"
    )


def planar_below(metrics, test):
    """Parts: problems, paired by seed; with one seed, a normal interval from the estimates' own errors."""
    parts, untested = [], _planar_absent(metrics, test.problems, test.model, test.reference)
    one = len(metrics.scale.planar.seeds) == 1
    for problem in (each for each in test.problems if each not in untested):
        own, other = (
            planar_values(metrics, problem, model, test.metric) for model in (test.model, test.reference)
        )
        if one and test.metric == "mmd":
            untested.append(f"{problem} (one seed)")
            continue
        errors = [
            planar_values(metrics, problem, model, "nll_standard_error")[0]
            for model in (test.model, test.reference)
        ]
        interval = _over_seeds(own - other, float(np.hypot(*errors)))
        parts.append(Part(problem, interval, interval.high < 0))
    return Evidence(
        parts,
        untested,
        "MMD²" if test.metric == "mmd" else "nats",
        f"{test.metric} of `{test.model}` minus `{test.reference}` on each of {len(test.problems)} problems: "
        "95 % interval below 0",
        "problem",
        "one seed: the interval covers the error of the estimate only" if one else "interval over seeds",
    )


def planar_within_floor(metrics, test):
    """Parts: problems; the mean over seeds of MMD² minus the 95 % quantile of data against data.

    Here equality is the claim, which no test can show: what is asked is that the mean over seeds stays inside
    the range in which 95 % of data-against-data values fall. The interval is shown, and does not decide.
    """
    parts, untested = [], _planar_absent(metrics, test.problems, test.model)
    for problem in (each for each in test.problems if each not in untested):
        excess = planar_values(metrics, problem, test.model, "mmd")
        excess = excess - metrics.planar[problem]["mmd_floor"]["quantile_95"]
        mean, low, high = statistics.student(excess)
        if len(excess) == 1:
            low = high = mean
        parts.append(Part(problem, Interval(mean, low, high, len(excess)), mean <= 0))
    inside = sum(part.holds for part in parts)
    notes = f"mean over seeds inside the floor's 95 % quantile at {inside} of {len(parts)} problems"
    if len(metrics.scale.planar.seeds) == 1:
        notes += "; one seed: no interval"
    return Evidence(
        parts,
        untested,
        "MMD²",
        f"MMD² of `{test.model}` to data, mean over seeds, minus the 95 % quantile of data against data, on each of "
        f"{len(test.problems)} problems: not above 0",
        "problem",
        notes,
    )


def discrete_at_most(metrics, test):
    """Parts: the ``at_least`` problems that come closest; the mean over seeds of our value minus the published one.

    "At or below" is the claim, so the mean decides. The interval is shown: over seeds, or with one seed over test
    points, where there is an error of them. What was published has an error too, which we do not know.
    """
    found, untested = [], [problem for problem in test.values if problem not in metrics.discrete]
    if test.model not in metrics.arms:
        untested = list(test.values)
    for problem in (each for each in test.values if each not in untested):
        runs = metrics.runs(problem, test.model)
        excess = np.array([run[test.metric] for run in runs]) - test.values[problem]
        interval = _over_seeds(excess, runs[0]["nll_standard_error"] if test.metric == "nll" else 0.0)
        found.append(Part(problem, interval, bool(interval.estimate <= 0)))
    found.sort(key=lambda part: (not part.holds, part.interval.estimate))
    if len(found) < test.at_least:
        found = []  # of the problems that are missing, any could hold
    elif untested:
        untested = []  # enough are there to decide
    notes = [
        f"at or below at {sum(part.holds for part in found)} of {len(found)} problems: "
        + ", ".join(f"{part.where} {part.interval.estimate:+.3g}" for part in found)
    ]
    if test.metric == "nll":
        notes += [
            f"{problem}: the published value is {metrics.discrete[problem]['entropy'] - value:.4f} nats below the "
            "data's entropy, which no model reaches on average"
            for problem, value in test.values.items()
            if problem in metrics.discrete and value < metrics.discrete[problem]["entropy"]
        ]
    if not metrics.several_seeds:
        notes.append(
            "one seed: the interval covers the test points only"
            if test.metric == "nll"
            else "one seed: no interval"
        )
    name = "MMD²" if test.metric == "mmd" else "NLL"
    return Evidence(
        found[: test.at_least],
        untested,
        "MMD²" if test.metric == "mmd" else "nats",
        f"{name} of `{test.model}`, mean over seeds, minus the published value: not above 0 on at least "
        f"{test.at_least} of {len(test.values)} problems; quoted is the worst of the best {test.at_least}",
        None,
        "; ".join(notes).replace("-", "−") if found else "",
    )


def _planar_absent(metrics, problems, *models):
    """The problems for which this scale has no file, or not all of ``models``."""
    if any(model not in metrics.planar_models for model in models):
        return list(problems)
    return [problem for problem in problems if problem not in metrics.planar]


def _over_seeds(values, standard_error):
    """The interval of a mean over seeds [S]; of one seed, a normal one from the estimate's own error."""
    if len(values) > 1:
        return Interval(*statistics.student(values), len(values))
    return normal(values[0], standard_error)


def normal(estimate, standard_error, level=statistics.LEVEL):
    """A normal interval of one estimate that has a standard error."""
    from scipy.special import ndtri  # the normal quantile

    half = float(ndtri((1 + level) / 2)) * standard_error
    return Interval(float(estimate), float(estimate) - half, float(estimate) + half, 1)


# {kind of test: its function}; divergence_evidence adds its own, so that no other report depends on it.
TESTS = {
    "finetune_below": finetune_below,
    "planar_below": planar_below,
    "planar_within_floor": planar_within_floor,
    "discrete_at_most": discrete_at_most,
}
