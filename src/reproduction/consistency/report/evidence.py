"""How the claims about consistency are decided: the kinds of test, and what the metrics say about each.

Every claim is about each problem of a scale; what a scale has no arms for is not tested there.
"""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reproduction.consistency.arms import bound
from reproduction.consistency.report import noising_evidence, policy_evidence
from reproduction.settings.types import Block, Positive
from reproduction.verdicts.evidence import Evidence, Part, equivalent, over_seeds, parts_below
from reproduction.verdicts.statistics import LEVEL, NARROW

__all__ = ["KINDS", "TESTS"]

ArmName = Annotated[str, Field(pattern=r"^(bound[+-][0-9.e-]+|iwae[0-9]+)$")]
Metric = Literal["nll", "elbo_nll", "log_w_variance"]
UNITS = {"nll": "nats", "elbo_nll": "nats", "log_w_variance": "nats²"}


class ArmChanges(Block):
    """``metric`` of each of ``arms`` is below (``lowers``) or above (``raises``) that of λ = 0 on each problem."""

    kind: Literal["arm_changes"]
    arms: Annotated[list[ArmName], Field(min_length=1)]
    metric: Metric
    direction: Literal["lowers", "raises"]


class Slope(Block):
    """[ΔNLL(λ) − ΔNLL(−λ)] / [ΔVar(λ) − ΔVar(−λ)] is ``slope`` ± ``margin`` on each problem."""

    kind: Literal["slope"]
    weight: Positive
    slope: float
    margin: Positive


class Odd(Block):
    """[ΔNLL(λ) + ΔNLL(−λ)] / [ΔNLL(λ) − ΔNLL(−λ)] is 0 ± ``margin`` on each problem."""

    kind: Literal["odd"]
    weight: Positive
    margin: Positive


class Unseen(Block):
    """[Δbound(λ) − Δbound(−λ)] / [ΔNLL(λ) − ΔNLL(−λ)] is 0 ± ``margin`` on each problem; bounds of −log p."""

    kind: Literal["unseen_by_the_bound"]
    weight: Positive
    margin: Positive


def arm_changes(metrics, test):
    """Parts: problem × arm, paired by seed; what must be below zero for the claim is the quantity."""
    factor = 1 if test.direction == "lowers" else -1
    intervals, untested = {}, _absent(metrics, test.arms)
    one = len(metrics.settings.seeds) == 1
    for problem in metrics.problems:
        for arm in [name for name in test.arms if name not in untested]:
            errors = metrics.change(problem, arm, test.metric, "standard_error")
            change = factor * metrics.change(problem, arm, test.metric)
            intervals[f"{problem}, {arm}"] = partial(over_seeds, change, float(errors[0]))
    order = "arm minus λ = 0" if factor == 1 else "λ = 0 minus arm"
    return Evidence(
        parts_below(intervals),
        untested,
        UNITS[test.metric],
        f"{test.metric} of {order}, for {', '.join(test.arms)} on {', '.join(metrics.problems)}: 95 % interval below 0",
        "part",
        "one seed: the interval is over test points" if one else "interval over seeds",
    )


def slope(metrics, test):
    return _ratio(
        metrics,
        test,
        lambda up, down: (up["nll"] - down["nll"]) / (up["log_w_variance"] - down["log_w_variance"]),
        f"ΔNLL/ΔVar between λ = ±{test.weight:g}",
        test.slope,
    )


def odd(metrics, test):
    return _ratio(
        metrics,
        test,
        lambda up, down: (up["nll"] + down["nll"]) / (up["nll"] - down["nll"]),
        f"the sum of ΔNLL at λ = ±{test.weight:g} over their difference",
    )


def unseen(metrics, test):
    return _ratio(
        metrics,
        test,
        lambda up, down: (up["elbo_nll"] - down["elbo_nll"]) / (up["nll"] - down["nll"]),
        f"what the bound changes between λ = ±{test.weight:g} over what NLL does",
    )


def _ratio(metrics, test, ratio, statement, centre=0.0):
    """Parts: problems; a ratio of changes at λ and −λ for each seed, which the claim holds to be ``centre`` ± its margin.

    A part is refuted by its interval at 95 % for all problems together (``parts_below`` says why).

    :param ratio: function of {metric: [S]} at λ and at −λ
    """
    arms = [bound(sign * test.weight).name for sign in (1, -1)]
    parts, untested = [], _absent(metrics, arms)
    together = 1 - (1 - LEVEL) / max(len(metrics.problems), 1)
    for problem in [] if untested else metrics.problems:
        if len(metrics.settings.seeds) == 1:
            untested.append(f"{problem} (one seed)")
            continue
        up, down = (
            {key: metrics.change(problem, arm, key) for key in ("nll", "elbo_nll", "log_w_variance")}
            for arm in arms
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            values = ratio(up, down)
        if not np.isfinite(values).all():
            untested.append(f"{problem} (nothing changed)")
            continue
        narrow, wide = (over_seeds(values - centre, 0.0, level) for level in (NARROW, together))
        parts.append(Part(problem, over_seeds(values, 0.0), equivalent(narrow, wide, test.margin)))
    return Evidence(
        parts,
        untested,
        "",
        f"{statement} is {_number(centre)} ± {test.margin:g} on {', '.join(metrics.problems)}: 90 % interval inside (two one-sided tests)",
        "problem",
        "interval over seeds",
    )


def _number(value):
    return f"{value:g}".replace("-", "−")


def _absent(metrics, arms):
    """Those of ``arms`` that this scale does not have."""
    return [arm for arm in arms if arm not in metrics.arms]


KINDS = {"arm_changes": ArmChanges, "slope": Slope, "odd": Odd, "unseen_by_the_bound": Unseen}
KINDS |= policy_evidence.KINDS | noising_evidence.KINDS
TESTS = {"arm_changes": arm_changes, "slope": slope, "odd": odd, "unseen_by_the_bound": unseen}
TESTS |= policy_evidence.TESTS | noising_evidence.TESTS
