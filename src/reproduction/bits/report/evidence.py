"""How the claims about planar problems as bits are decided: the kind of test, and what the metrics say about it."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reproduction.bits.settings import Arm
from reproduction.settings.problems import Problem
from reproduction.settings.types import Block
from reproduction.settings.validation import rule
from reproduction.verdicts.evidence import Evidence, best, over_seeds, parts_below

__all__ = ["KINDS", "TESTS", "DiscreteAtMost"]


class DiscreteAtMost(Block):
    """``metric`` of arm ``model`` on the problems as 32 bits is at most the published one, on ``at_least`` of them."""

    kind: Literal["discrete_at_most"]
    model: Arm
    metric: Literal["nll", "mmd"]
    values: Annotated[dict[Problem, float], Field(min_length=1)] = Field(
        description="problem: the published value"
    )
    at_least: Annotated[int, Field(ge=1)]

    @rule("at_least", "values")
    def there_are_so_many(at_least, values):
        return None if at_least <= len(values) else f"must be at most the number of values, {len(values)}"


def discrete_at_most(metrics, test):
    """Parts: the ``at_least`` problems that come closest; the mean over seeds of our value minus the published one.

    The interval is over seeds, or with one seed over test points, where there is an error of them. What was published
    has an error too, which we do not know.
    """
    intervals, untested = {}, [problem for problem in test.values if problem not in metrics.bits]
    if test.model not in metrics.arms:
        untested = list(test.values)
    one = len(metrics.settings.seeds) == 1
    for problem in [name for name in test.values if name not in untested]:
        if one and test.metric == "mmd":
            untested.append(f"{problem} (one seed)")
            continue
        runs = metrics.runs(problem, test.model)
        excess = np.array([run[test.metric] for run in runs]) - test.values[problem]
        intervals[problem] = partial(over_seeds, excess, runs[0]["nll_standard_error"])
    parts = parts_below(intervals)
    parts.sort(key=lambda part: part.interval.estimate)
    every = ", ".join(f"{part.where} {part.interval.estimate:+.3g}" for part in parts)
    notes = [f"all {len(parts)}: {every}"] if len(parts) > 1 else []
    parts, open_ones = best(parts, len(untested), test.at_least)
    if test.metric == "nll":
        notes += [
            f"{problem}: the published value is {metrics.bits[problem]['entropy'] - value:.4f} nats below the "
            "data's entropy, which no model reaches on average"
            for problem, value in test.values.items()
            if problem in metrics.bits and value < metrics.bits[problem]["entropy"]
        ]
    if one:
        notes.append("one seed: the interval covers the test points only")
    name = "MMD²" if test.metric == "mmd" else "NLL"
    return Evidence(
        parts,
        untested if open_ones else [],
        "MMD²" if test.metric == "mmd" else "nats",
        f"{name} of `{test.model}` minus the published value: 95 % interval below 0 on at least "
        f"{test.at_least} of {len(test.values)} problems; quoted is the worst of the best {test.at_least}",
        "problem" if test.at_least > 1 else None,
        "; ".join(notes).replace("-", "−") if parts else "",
    )


KINDS = {"discrete_at_most": DiscreteAtMost}
TESTS = {"discrete_at_most": discrete_at_most}
