"""How claims/divergences.yaml is decided from the metrics: the three kinds of test, and the evidence for each."""

from functools import partial
from itertools import combinations, product
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reproduction.divergences.report.metrics import OBJECTIVES, VARIATES
from reproduction.divergences.settings import ControlVariate, Objective, OnPolicy, Task
from reproduction.settings.types import Block, NonNegative, Positive, differ
from reproduction.settings.validation import rule
from reproduction.verdicts import statistics
from reproduction.verdicts.evidence import Evidence, Part, best, equivalent, parts_below
from reproduction.verdicts.statistics import Interval

__all__ = ["KINDS", "TESTS"]

SEEDS = "paired by seed"


class DivergenceBelow(Block):
    """The exact metric of each of ``objectives`` is below that of each ``reference``, in ``at_least`` of the pairs."""

    kind: Literal["divergence_below"]
    task: Task
    objectives: Annotated[list[Objective], Field(min_length=1)]
    reference: Annotated[list[Objective], Field(min_length=1)]
    measure: Literal["final", "area"] = Field(
        description="after the last step, or the mean over training: what is faster has the smaller area"
    )
    margin: NonNegative = Field(
        description="by how much it may be above and still count as not above; 0 where it has to be below"
    )
    at_least: Annotated[int, Field(ge=1, strict=True)]

    objectives_differ = rule("objectives")(differ)

    @rule("reference", "objectives")
    def others(reference, objectives):
        both = [name for name in reference if name in objectives]
        return differ(reference) or (f"must be others than `objectives`: {both[0]}" if both else None)

    @rule("at_least", "objectives", "reference")
    def there_are_so_many(at_least, objectives, reference):
        pairs = len(objectives) * len(reference)
        return None if at_least <= pairs else f"must be at most the number of pairs, {pairs}"


class DivergencesAlike(Block):
    """The final exact metrics of ``objectives`` differ by less than ``margin``, pair by pair."""

    kind: Literal["divergences_alike"]
    task: Task
    objectives: Annotated[list[Objective], Field(min_length=2)]
    margin: Positive = Field(
        description="the largest difference that still counts as none, in the metric's unit"
    )

    objectives_differ = rule("objectives")(differ)


class VarianceBelow(Block):
    """The trace of the gradient's covariance with ``control_variate`` is below that with ``reference``, at every
    batch size."""

    kind: Literal["variance_below"]
    task: Task | None = Field(description="null = on every task whose gradients the scale measures")
    objective: OnPolicy
    control_variate: ControlVariate
    reference: ControlVariate

    @rule("reference", "control_variate")
    def two_variates(reference, control_variate):
        return "must be another one than `control_variate`" if reference == control_variate else None


KINDS = {
    "divergence_below": DivergenceBelow,
    "divergences_alike": DivergencesAlike,
    "variance_below": VarianceBelow,
}


def divergence_below(metrics, test):
    """Parts: pairs of an objective and a reference; the ``at_least`` best of them."""
    pairs, intervals, untested = list(product(test.objectives, test.reference)), {}, []
    for objective, reference in pairs:
        if _difference(metrics, test.task, objective, reference, untested, measure=test.measure) is not None:
            of_level = partial(metrics.difference, test.task, objective, reference, test.measure)
            intervals[_against(objective, reference)] = of_level
    parts = parts_below(intervals, test.margin)
    parts, open_ones = best(parts, len(pairs) - len(parts), test.at_least)
    what = {"final": "after training", "area": "averaged over training"}[test.measure]
    some = "" if test.at_least == len(pairs) else f" for at least {test.at_least} of {len(pairs)} pairs"
    return Evidence(
        parts,
        _once(untested) if open_ones else [],
        _unit(metrics, test.task),
        f"exact {_name(metrics, test.task)} {what} of {_titles(test.objectives)} minus that of "
        f"{_titles(test.reference)}{some}: 95 % interval below {test.margin:g}",
        "pair" if len(pairs) > 1 else None,
        SEEDS if parts else "",
    )


def divergences_alike(metrics, test):
    """Parts: pairs, the higher mean minus the lower one, by two one-sided tests (``verdicts.evidence.equivalent``).

    That all pairs are alike takes no correction for their number. That some pair is apart does, for it refutes the claim
    alone: of five objectives that are equal, with three seeds, intervals at 95 % each would part some pair 36 times in
    100. So the intervals that can refute, which are those shown, are simultaneous (Bonferroni).
    """
    pairs, parts, untested = list(combinations(test.objectives, 2)), [], []
    together = 1 - (1 - statistics.LEVEL) / len(pairs)
    for pair in pairs:
        if all(metrics.has(test.task, name) for name in pair):
            pair = sorted(pair, key=lambda name: -metrics.values(test.task, name).mean())
        wide = _difference(metrics, test.task, *pair, untested, level=together)
        if wide is not None:
            narrow = metrics.difference(test.task, *pair, level=statistics.NARROW)
            parts.append(Part(_against(*pair), wide, equivalent(narrow, wide, test.margin)))
    return Evidence(
        parts,
        _once(untested),
        _unit(metrics, test.task),
        f"exact {_name(metrics, test.task)} after training of {_titles(test.objectives)}: the 90 % interval of every "
        f"pair's difference within ± {test.margin:g}; shown are intervals at 95 % for all pairs together",
        "pair" if len(pairs) > 1 else None,
        SEEDS if parts else "",
    )


def variance_below(metrics, test):
    """Parts: tasks × batch sizes; the mean over groups of batches of log(trace with the control variate / trace with the
    reference), of the same batches.

    Traces are far from normal and vary together, their log-ratios do neither.
    """
    tasks = list(metrics.gradients) if test.task is None else [test.task]
    names = (test.control_variate, test.reference)
    intervals, lengths, untested = {}, [], [] if tasks else ["gradients"]
    for task in tasks:
        rows = {
            (row["control_variate"], row["batch"]): row
            for row in metrics.gradients.get(task, {"rows": []})["rows"]
            if row["objective"] == test.objective
        }
        batches = sorted(batch for name, batch in rows if name == names[0] and (names[1], batch) in rows)
        if not batches:
            untested.append(f"{names[0]} and {names[1]} of {OBJECTIVES[test.objective].title} on {task}")
        for batch in batches:
            own, other = (rows[name, batch] for name in names)
            if len(own["traces"]) < 2 or min(own["traces"] + other["traces"]) <= 0:
                untested.append(f"{task}, batch {batch} (needs two groups of batches, and traces above 0)")
                continue
            ratios = np.log(own["traces"]) - np.log(other["traces"])
            intervals[f"{task}, batch {batch}"] = partial(_of_one_policy, ratios)
            if batch == batches[-1] and min(own["mean_square"], other["mean_square"]) > 0:
                lengths.append(f"{own['mean_square'] / other['mean_square']:.3g} ({task})")
    notes = ["the interval is over groups of batches, at one policy a task"]
    if lengths:
        notes.append(
            f"the mean gradient's square over the reference's at the largest batch: {', '.join(lengths)}"
        )
    return Evidence(
        parts_below(intervals),
        untested,
        "log-ratio",
        f"natural logarithm of the trace of the covariance of {OBJECTIVES[test.objective].title}'s gradient with the "
        f"control variate “{VARIATES[names[0]]}” over that with “{VARIATES[names[1]]}”, mean over groups of batches: "
        "95 % interval below 0 at every batch size",
        "batch size",
        "; ".join(notes) if intervals else "",
    )


def _of_one_policy(ratios, level):
    """Student's interval over groups of batches, at one policy."""
    return Interval(*statistics.student(ratios, level), 1)


TESTS = {
    "divergence_below": divergence_below,
    "divergences_alike": divergences_alike,
    "variance_below": variance_below,
}


def _difference(metrics, task, objective, reference, untested, **how):
    """The interval, or None and a line more in ``untested``."""
    absent = [name for name in (objective, reference) if not metrics.has(task, name)]
    if task not in metrics.tasks:
        untested.append(f"the task {task}")
    elif absent:
        untested += [f"{OBJECTIVES[name].title} on {task}" for name in absent]
    elif not metrics.several_seeds(task):
        untested.append(f"{task} with more than one seed")
    else:
        return metrics.difference(task, objective, reference, **how)


def _against(objective, reference):
    return f"{OBJECTIVES[objective].title} against {OBJECTIVES[reference].title}"


def _titles(names):
    titles = [OBJECTIVES[name].title for name in names]
    return " and ".join([", ".join(titles[:-1]), titles[-1]] if len(titles) > 1 else titles)


def _name(metrics, task):
    return f"{metrics.tasks[task]['metric']} on {task}" if task in metrics.tasks else f"metric on {task}"


def _unit(metrics, task):
    metric = metrics.tasks[task]["metric"] if task in metrics.tasks else ""
    return "nats" if metric == "JSD" else metric


def _once(values):
    return list(dict.fromkeys(values))
