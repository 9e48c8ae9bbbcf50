"""How the claims about learned noising are decided: the kinds of test, and what the metrics say about each.

Every claim is about each problem of a scale; what a scale has no arms for is not tested there. The functions are given
the metrics of the whole experiment, whose ``noising`` they read.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reproduction.consistency.noising_arms import REFERENCE
from reproduction.consistency.noising_settings import ArmName
from reproduction.consistency.report.compared import absent, arms_below, listed, one_seed
from reproduction.settings.types import Block, Positive
from reproduction.verdicts.evidence import UNDECIDED, Evidence, Part, equivalent, over_seeds
from reproduction.verdicts.statistics import LEVEL, NARROW

__all__ = ["KINDS", "TESTS"]

PART = "learned rates of noising"
Metric = Literal["nll", "elbo_nll"]
GAIN = "pathwise"  # whose gain over the fixed rates is the measure of what another arm lacks


class NoisingBelow(Block):
    """``metric`` of each of ``arms`` is below that with fixed rates on each problem."""

    kind: Literal["noising_below"]
    arms: Annotated[list[ArmName], Field(min_length=1)]
    metric: Metric


class NoisingAlike(Block):
    """``metric`` of two arms is equal to within ``margin`` of what the reparameterised gradient gains over fixed rates, on
    each problem."""

    kind: Literal["noising_alike"]
    arms: Annotated[list[ArmName], Field(min_length=2, max_length=2)]
    metric: Metric
    margin: Positive


def noising_below(whole, test):
    """Parts: problem × arm, paired by seed."""
    return arms_below(whole.noising, test, REFERENCE, PART)


def noising_alike(whole, test):
    """Parts: problems; (first − second) over the mean gain of ``pathwise``, which is 0 ± the margin for the claim.

    A problem on which the gain cannot be told from 0 is undecided, whatever the arms do: there is no measure. Its
    difference is then over the largest gain that the interval allows. What refutes is simultaneous for all problems
    (Bonferroni).
    """
    metrics, (one, other) = whole.noising, test.arms
    untested = absent(metrics, [one, other, REFERENCE, GAIN], PART)
    if not untested and one_seed(metrics):
        untested = ["a ratio of one seed"]
    parts, notes, together = [], ["interval over seeds"], 1 - (1 - LEVEL) / max(len(metrics.problems), 1)
    for problem in [] if untested else metrics.problems:
        gain = -metrics.change(problem, GAIN, test.metric)
        gained = over_seeds(gain, np.nan)
        told = gained.low > 0
        change = metrics.change(problem, one, test.metric) - metrics.change(problem, other, test.metric)
        values = change / (gain.mean() if told else max(abs(gained.low), abs(gained.high)))
        narrow, wide = (over_seeds(values, 0.0, level) for level in (NARROW, together))
        outcome = equivalent(narrow, wide, test.margin) if told else UNDECIDED
        parts.append(Part(problem, over_seeds(values, 0.0), outcome))
        if not told:
            half = (gained.high - gained.low) / 2
            notes.append(
                f"{problem}: {GAIN} gains nothing that could be told, below {half:.2g} nats it could not"
            )
    return Evidence(
        parts,
        untested,
        "",
        f"{test.metric} of {one} minus that of {other}, over what {GAIN} gains, is 0 ± {test.margin:g} on "
        f"{listed(metrics)}: 90 % interval inside (two one-sided tests)",
        "problem",
        "; ".join(notes),
    )


KINDS = {"noising_below": NoisingBelow, "noising_alike": NoisingAlike}
TESTS = {"noising_below": noising_below, "noising_alike": noising_alike}
