"""How the claims about consistency on P_B are decided: the kinds of test, and what the metrics say about each.

Every claim is about each problem of a scale; what a scale has no arms for is not tested there. The functions are given
the metrics of the whole experiment, whose ``policy`` they read.
"""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reproduction.consistency.policy_arms import REFERENCE
from reproduction.consistency.policy_settings import ArmName
from reproduction.consistency.report.compared import absent, arms_below, listed, one_seed
from reproduction.settings.types import Block, Positive
from reproduction.verdicts.evidence import Evidence, Part, equivalent, over_seeds, parts_below
from reproduction.verdicts.statistics import LEVEL, NARROW

__all__ = ["KINDS", "TESTS"]

PART = "P_B on bit strings"
Metric = Literal["nll", "elbo_nll"]


class PolicyBelow(Block):
    """``metric`` of each of ``arms`` is below that of ``uniform_single`` on each problem."""

    kind: Literal["policy_below"]
    arms: Annotated[list[ArmName], Field(min_length=1)]
    metric: Metric


class PolicyAlike(Block):
    """``metric`` of two arms is equal to within ``margin`` of what the order of significance is worth, on each problem:
    NLL of ``uniform_single`` minus that of ``ordered``."""

    kind: Literal["policy_alike"]
    arms: Annotated[list[ArmName], Field(min_length=2, max_length=2)]
    metric: Metric
    margin: Positive


class PolicyOrder(Block):
    """The mean step at which the arm empties an entry has at least this rank correlation with significance."""

    kind: Literal["policy_order"]
    arm: ArmName
    at_least: Annotated[float, Field(ge=-1, le=1)]


def policy_below(whole, test):
    """Parts: problem × arm, paired by seed."""
    return arms_below(whole.policy, test, REFERENCE, PART)


def policy_alike(whole, test):
    """Parts: problems, paired by seed; what refutes is simultaneous for all of them (Bonferroni)."""
    metrics = whole.policy
    untested = absent(metrics, [*test.arms, REFERENCE, "ordered"], PART)
    if not untested and one_seed(metrics):
        untested = ["a ratio of one seed"]
    parts = []
    together = 1 - (1 - LEVEL) / max(len(metrics.problems), 1)
    for problem in [] if untested else metrics.problems:
        first, second, ordered = (
            metrics.change(problem, arm, key)
            for arm, key in ((test.arms[0], test.metric), (test.arms[1], test.metric), ("ordered", "nll"))
        )
        worth = -ordered.mean()
        if worth <= 0:
            untested.append(f"{problem} (the order of significance is worth nothing)")
            continue
        values = (first - second) / worth
        narrow, wide = (over_seeds(values, 0.0, level) for level in (NARROW, together))
        parts.append(Part(problem, over_seeds(values, 0.0), equivalent(narrow, wide, test.margin)))
    one, other = test.arms
    return Evidence(
        parts,
        untested,
        "",
        f"{test.metric} of {one} minus that of {other}, over what the order of significance is worth, is 0 ± "
        f"{test.margin:g} on {listed(metrics)}: 90 % interval inside (two one-sided tests)",
        "problem",
        "interval over seeds",
    )


def policy_order(whole, test):
    """Parts: problems; the limit minus the rank correlation, which must be below zero for the claim."""
    metrics = whole.policy
    untested = absent(metrics, [test.arm], PART)
    if not untested and one_seed(metrics):
        untested = ["one seed"]
    intervals = {
        problem: partial(
            over_seeds, test.at_least - metrics.level(problem, test.arm, "rank_correlation"), np.nan
        )
        for problem in ([] if untested else metrics.problems)
    }
    return Evidence(
        parts_below(intervals),
        untested,
        "",
        f"{test.at_least:g} minus the rank correlation of {test.arm}'s mean emptying steps with those of the order of "
        f"significance on {listed(metrics)}: 95 % interval below 0",
        "problem",
        "interval over seeds",
    )


KINDS = {"policy_below": PolicyBelow, "policy_alike": PolicyAlike, "policy_order": PolicyOrder}
TESTS = {"policy_below": policy_below, "policy_alike": policy_alike, "policy_order": policy_order}
