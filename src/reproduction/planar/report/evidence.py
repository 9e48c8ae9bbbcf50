"""How the claims about planar problems are decided: the kinds of test, and what the metrics say about each."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reproduction.settings.problems import Problem
from reproduction.settings.types import Block
from reproduction.settings.validation import rule
from reproduction.verdicts.evidence import Evidence, over_seeds, parts_below

__all__ = ["KINDS", "TESTS", "PlanarBelow", "PlanarWithinFloor"]

Model = Literal["ddpm", "vlb", "mle_gfn"]


class PlanarBelow(Block):
    """``metric`` of ``model`` is below that of ``reference`` on each of ``problems``."""

    kind: Literal["planar_below"]
    model: Model
    reference: Model
    metric: Literal["nll", "elbo_nll", "mmd"]
    problems: Annotated[list[Problem], Field(min_length=1)]

    @rule("reference", "model")
    def two_models(reference, model):
        return "must be another one than `model`" if reference == model else None


class PlanarWithinFloor(Block):
    """MMD² of ``model``'s samples to data is below the 95 % quantile of that between data and data."""

    kind: Literal["planar_within_floor"]
    model: Model
    problems: Annotated[list[Problem], Field(min_length=1)]


def planar_below(metrics, test):
    """Parts: problems, paired by seed; with one seed, a normal interval from the estimates' own errors."""
    intervals, untested = {}, _absent(metrics, test.problems, test.model, test.reference)
    one = len(metrics.settings.seeds) == 1
    for problem in [name for name in test.problems if name not in untested]:
        own, other = (metrics.values(problem, model, test.metric) for model in (test.model, test.reference))
        if one and test.metric == "mmd":
            untested.append(f"{problem} (one seed)")
            continue
        errors = [
            metrics.values(problem, model, "nll_standard_error")[0] for model in (test.model, test.reference)
        ]
        intervals[problem] = partial(over_seeds, own - other, float(np.hypot(*errors)))
    return Evidence(
        parts_below(intervals),
        untested,
        "MMD²" if test.metric == "mmd" else "nats",
        f"{test.metric} of `{test.model}` minus `{test.reference}` on each of {len(test.problems)} problems: "
        "95 % interval below 0",
        "problem",
        "one seed: the interval covers the error of the estimate only" if one else "interval over seeds",
    )


def planar_within_floor(metrics, test):
    """Parts: problems; the interval over seeds of MMD² minus the 95 % quantile of data against data.

    Equality is the claim, and the quantile is its margin: samples count as the data's if their MMD² is shown to be below
    what one in twenty samples of the data itself exceeds. MMD² is at least 0, so one bound is enough.
    """
    intervals, untested = {}, _absent(metrics, test.problems, test.model)
    one = len(metrics.settings.seeds) == 1
    for problem in [name for name in test.problems if name not in untested]:
        if one:
            untested.append(f"{problem} (one seed)")
            continue
        excess = metrics.values(problem, test.model, "mmd")
        excess = excess - metrics.planar[problem]["mmd_floor"]["quantile_95"]
        intervals[problem] = partial(over_seeds, excess, None)
    return Evidence(
        parts_below(intervals),
        untested,
        "MMD²",
        f"MMD² of `{test.model}` to data minus the 95 % quantile of data against data, on each of "
        f"{len(test.problems)} problems: 95 % interval below 0",
        "problem",
        "interval over seeds",
    )


def _absent(metrics, problems, *models):
    """The problems for which this scale has no file, or not all of ``models``."""
    if any(model not in metrics.planar_models for model in models):
        return list(problems)
    return [problem for problem in problems if problem not in metrics.planar]


KINDS = {"planar_below": PlanarBelow, "planar_within_floor": PlanarWithinFloor}
TESTS = {"planar_below": planar_below, "planar_within_floor": planar_within_floor}
