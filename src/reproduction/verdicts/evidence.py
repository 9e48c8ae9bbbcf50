"""What the metrics say about a claim: its parts, each with an interval and an outcome.

The functions that collect evidence, one for each kind of test, belong to the experiments; these are the types that
they return, the intervals that several of them need, the two rules by which an interval decides (:func:`below` and
:func:`equivalent`), and those by which parts decide together (:func:`best` and :func:`every`). An outcome is
``REPRODUCED``, ``REFUTED`` or ``UNDECIDED``, and None for a part that could not be tested.
"""

from typing import NamedTuple

from reproduction.verdicts import statistics
from reproduction.verdicts.statistics import Interval

__all__ = [
    "REFUTED",
    "REPRODUCED",
    "UNDECIDED",
    "Evidence",
    "Part",
    "below",
    "best",
    "equivalent",
    "estimated",
    "every",
    "normal",
    "over_seeds",
    "parts_below",
    "worst_first",
]

REPRODUCED, REFUTED, UNDECIDED = "reproduced", "refuted", "undecided"


class Part(NamedTuple):
    """One thing that a claim says: where, the interval of the quantity that it is about, and what that decides."""

    where: str
    interval: Interval
    outcome: str


class Evidence(NamedTuple):
    """What a test measured: the parts that could be tested, those that could not, and what was meant."""

    parts: list
    untested: list
    unit: str
    statement: str
    noun: str | None  # what a part is, in the singular; None where there is one part only
    notes: str


def below(interval, limit=0.0, wide=None):
    """The outcome of "the quantity is below ``limit``"; bounds that are not finite decide nothing.

    :param wide: the interval that refutes, if it is another one: simultaneous for all parts of a claim
    """
    if interval.high < limit:
        return REPRODUCED
    return REFUTED if (wide or interval).low > limit else UNDECIDED


def parts_below(intervals, limit=0.0):
    """The parts of a claim that every quantity is below ``limit``: {where: function of the level → ``Interval``}.

    That all are below takes no correction for their number (:func:`every`). That some part is above does, for it refutes
    the claim alone: with no effect, one of nine independent parts lies above at 95 % in 20 of 100 experiments. So a part
    is refuted by its interval at 95 % for all parts together (Bonferroni); shown is its own at 95 %.
    """
    together = 1 - (1 - statistics.LEVEL) / max(len(intervals), 1)
    parts = []
    for where, of_level in intervals.items():
        own = of_level(statistics.LEVEL)
        parts.append(Part(where, own, below(own, limit, of_level(together))))
    return parts


def equivalent(narrow, wide, margin):
    """The outcome of "the quantity lies within ± ``margin``": two one-sided tests at 5 % each (Schuirmann, 1987).

    :param narrow: the quantity's 90 % interval, each bound of which is a one-sided 5 % test
    :param wide: its interval at ``statistics.LEVEL`` or above, which must miss the whole of ± ``margin`` to refute
    """
    if -margin < narrow.low and narrow.high < margin:
        return REPRODUCED
    return REFUTED if wide.low > margin or wide.high < -margin else UNDECIDED


def every(outcomes):
    """The outcome of a claim whose parts have these ``outcomes``; None for "cannot be said".

    The claim is the intersection of its parts, so the intersection-union test applies: each part is tested at the full
    level and no correction for their number is due, for wrongly accepting the whole takes wrongly accepting a part that
    is false (Berger, 1982). One refuted part refutes the whole, whatever a part that is missing would show.
    """
    outcomes = list(outcomes)
    if REFUTED in outcomes:
        return REFUTED
    if None in outcomes or not outcomes:
        return None
    return UNDECIDED if UNDECIDED in outcomes else REPRODUCED


def worst_first(part):
    """The key by which parts are ordered: refuted before undecided before reproduced, then the highest interval."""
    return (REFUTED, UNDECIDED, REPRODUCED).index(part.outcome), -part.interval.high


def best(parts, missing, count):
    """What decides a claim about at least ``count`` of its parts: (those parts, whether a missing one is among them).

    They are the best ``count``, of which every one must show the claim. A part that is missing could be a reproduced
    one, so it comes after those that are and before the others.

    :param missing: how many parts could not be tested
    """
    parts = sorted(parts, key=worst_first, reverse=True)
    shown = sum(part.outcome == REPRODUCED for part in parts)
    open_places = min(missing, max(0, count - shown))
    return parts[: count - open_places], open_places > 0


def normal(estimate, standard_error, level=statistics.LEVEL):
    """The normal interval of one estimate with a standard error, as an ``Interval`` of one seed."""
    from scipy.special import ndtri  # the normal quantile

    half = float(ndtri((1 + level) / 2)) * standard_error
    return Interval(float(estimate), float(estimate) - half, float(estimate) + half, 1)


def estimated(estimate, standard_error, count=None, level=statistics.LEVEL):
    """The interval of one estimate whose standard error is that of ``count`` values: Student's, or normal for None."""
    if count is None:
        return normal(estimate, standard_error, level)
    from scipy.special import stdtrit

    half = float(stdtrit(count - 1, (1 + level) / 2)) * standard_error
    return Interval(float(estimate), float(estimate) - half, float(estimate) + half, 1)


def over_seeds(values, standard_error, level=statistics.LEVEL):
    """The interval of the mean of ``values`` [S], one number a seed.

    Student's over the seeds; of one seed, the normal one from ``standard_error``, the estimate's own.
    """
    if len(values) > 1:
        return Interval(*statistics.student(values, level), len(values))
    return normal(values[0], standard_error, level)
