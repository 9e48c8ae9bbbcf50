"""How claims/divergences.yaml is decided from the metrics: the three kinds of test, and the evidence for each."""

from itertools import combinations, product
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reproduction.divergences.report.metrics import OBJECTIVES, VARIATES
from reproduction.divergences.settings import ControlVariate, Objective, OnPolicy, Task
from reproduction.settings.types import Block, differ
from reproduction.settings.validation import rule
from reproduction.verdicts import statistics
from reproduction.verdicts.evidence import Evidence, Part, normal

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
    or_alike: Annotated[bool, Field(strict=True)] = Field(
        description="whether it is enough that it is not shown to be above"
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
    """The final exact metrics of ``objectives`` cannot be told apart, pair by pair."""

    kind: Literal["divergences_alike"]
    task: Task
    objectives: Annotated[list[Objective], Field(min_length=2)]

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
    """Parts: pairs of an objective and a reference; the best ``at_least`` of them, or one too many that fail."""
    pairs, parts, untested = list(product(test.objectives, test.reference)), [], []
    for objective, reference in pairs:
        interval = _difference(metrics, test.task, objective, reference, untested, measure=test.measure)
        if interval is not None:
            holds = interval.low <= 0 if test.or_alike else interval.high < 0
            parts.append(Part(_against(objective, reference), interval, holds))
    parts.sort(key=lambda part: (not part.holds, part.interval.high))
    if sum(not part.holds for part in parts) <= len(pairs) - test.at_least:
        parts = [part for part in parts if part.holds]  # of the others, enough could hold
        if len(parts) >= test.at_least:
            untested = []
    parts = parts[: test.at_least]
    what = {"final": "after training", "area": "averaged over training"}[test.measure]
    some = "" if test.at_least == len(pairs) else f" for at least {test.at_least} of {len(pairs)} pairs"
    bound = "95 % interval not above 0" if test.or_alike else "95 % interval below 0"
    notes = [SEEDS] if parts else []
    if parts and test.or_alike:
        notes.append("that the interval reaches below 0 does not show equality, which no test can")
    return Evidence(
        parts,
        _once(untested),
        _unit(metrics, test.task),
        f"exact {_name(metrics, test.task)} {what} of {_titles(test.objectives)} minus that of "
        f"{_titles(test.reference)}{some}: {bound}",
        "pair" if len(pairs) > 1 else None,
        "; ".join(notes),
    )


def divergences_alike(metrics, test):
    """Parts: pairs, the higher mean minus the lower one; a pair holds if its interval contains 0.

    The claim is about all pairs together, and one pair apart decides against it. So the intervals are simultaneous
    (Bonferroni): of five objectives that are equal, with three seeds, intervals at 95 % each would part some pair 36
    times in 100. No test can show equality: what the intervals could have seen is said beside it.
    """
    pairs, parts, untested = list(combinations(test.objectives, 2)), [], []
    for pair in pairs:
        if all(metrics.has(test.task, name) for name in pair):
            pair = sorted(pair, key=lambda name: -metrics.values(test.task, name).mean())
        level = 1 - (1 - statistics.LEVEL) / len(pairs)
        interval = _difference(metrics, test.task, *pair, untested, level=level)
        if interval is not None:
            parts.append(Part(_against(*pair), interval, interval.low <= 0))
    notes = [SEEDS] if parts else []
    if parts and all(part.holds for part in parts):
        half = max(part.interval.high - part.interval.estimate for part in parts)
        notes.append(f"differences up to {half:.2g} could have gone unseen")
    return Evidence(
        parts,
        _once(untested),
        _unit(metrics, test.task),
        f"exact {_name(metrics, test.task)} after training of {_titles(test.objectives)}: the interval of every pair's "
        "difference contains 0, at 95 % for all together",
        "pair" if len(pairs) > 1 else None,
        "; ".join(notes),
    )


def variance_below(metrics, test):
    """Parts: tasks × batch sizes; the trace with the control variate over that with the reference, minus 1.

    Its standard error is the delta method's from both traces' own, as if they were independent: they come from the
    same batches, which makes the interval conservative.
    """
    tasks = list(metrics.gradients) if test.task is None else [test.task]
    names = (test.control_variate, test.reference)
    parts, lengths, untested = [], [], [] if tasks else ["gradients"]
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
            ratio = own["trace"] / other["trace"]
            error = (
                np.hypot(own["trace_standard_error"], ratio * other["trace_standard_error"]) / other["trace"]
            )
            interval = normal(ratio - 1, float(error))
            parts.append(Part(f"{task}, batch {batch}", interval, interval.high < 0))
            if batch == batches[-1] and min(own["mean_square"], other["mean_square"]) > 0:
                lengths.append(f"{own['mean_square'] / other['mean_square']:.3g} ({task})")
    notes = ["the interval covers the estimate of the traces, at one policy a task"]
    if lengths:
        notes.append(
            f"the mean gradient's square over the reference's at the largest batch: {', '.join(lengths)}"
        )
    return Evidence(
        parts,
        untested,
        "relative",
        f"trace of the covariance of {OBJECTIVES[test.objective].title}'s gradient with the control variate "
        f"“{VARIATES[names[0]]}” over that with “{VARIATES[names[1]]}”, minus 1: 95 % interval below 0 at every batch "
        "size",
        "batch size",
        "; ".join(notes) if parts else "",
    )


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
