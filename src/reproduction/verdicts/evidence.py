"""What the metrics say about a claim: its parts, each with an interval.

The functions that collect evidence, one for each kind of test, belong to the experiments; these are the types that
they return and the intervals that several of them need.
"""

from typing import NamedTuple

from reproduction.verdicts import statistics
from reproduction.verdicts.statistics import Interval

__all__ = ["Evidence", "Part", "normal", "over_seeds"]


class Part(NamedTuple):
    """One thing that a claim says: where, the interval of a quantity that must be negative, and whether it is."""

    where: str
    interval: Interval
    holds: bool


class Evidence(NamedTuple):
    """What a test measured: the parts that could be tested, those that could not, and what was meant."""

    parts: list
    untested: list
    unit: str
    statement: str
    noun: str | None  # what a part is, in the singular; None where there is one part only
    notes: str


def normal(estimate, standard_error, level=statistics.LEVEL):
    """The normal interval of one estimate with a standard error, as an ``Interval`` of one seed."""
    from scipy.special import ndtri  # the normal quantile

    half = float(ndtri((1 + level) / 2)) * standard_error
    return Interval(float(estimate), float(estimate) - half, float(estimate) + half, 1)


def over_seeds(values, standard_error):
    """The interval of the mean of ``values`` [S], one number a seed.

    Student's over the seeds; of one seed, the normal one from ``standard_error``, the estimate's own.
    """
    if len(values) > 1:
        return Interval(*statistics.student(values), len(values))
    return normal(values[0], standard_error)
