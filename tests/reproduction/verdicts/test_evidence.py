"""Intervals from a standard error and over seeds, and what they decide: one part, all parts, some of them."""

import numpy as np
import pytest
from scipy import stats

from reproduction.verdicts import statistics
from reproduction.verdicts.evidence import (
    REFUTED,
    REPRODUCED,
    UNDECIDED,
    Part,
    below,
    best,
    equivalent,
    estimated,
    every,
    normal,
    over_seeds,
)
from reproduction.verdicts.statistics import Interval

OUTCOMES = (REPRODUCED, UNDECIDED, REFUTED)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_normal_is_scipys(level):
    interval = normal(-2.5, 0.3, level)
    assert (interval.low, interval.high) == pytest.approx(stats.norm(-2.5, 0.3).interval(level))
    assert (interval.estimate, interval.seeds, interval.images) == (-2.5, 1, None)


def test_a_standard_error_of_zero_leaves_no_width():
    assert normal(1.0, 0.0)[:3] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_error_of_few_values_gives_students_interval(level):
    values = np.random.default_rng(0).normal(2, 3, 4)
    interval = estimated(values.mean(), values.std(ddof=1) / 2, 4, level)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert estimated(1.0, 0.3, None, level) == normal(1.0, 0.3, level)


def test_several_seeds_speak_for_themselves_and_one_by_its_own_error():
    values = np.array([1.0, 2.0, 4.0])
    several = over_seeds(values, standard_error=1e9)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (several.low, several.high) == pytest.approx((expected.low, expected.high))
    assert several.seeds == 3
    assert over_seeds(values[:1], standard_error=0.3) == normal(1.0, 0.3)


def at(low, high):
    return Interval((low + high) / 2, low, high, 3)


@pytest.mark.parametrize(
    "low, high, limit, expected",
    [
        (-2, -1, 0, REPRODUCED),
        (-2, 1, 0, UNDECIDED),
        (1, 2, 0, REFUTED),
        (1, 2, 3, REPRODUCED),
        (1, 2, 1.5, UNDECIDED),
        (-2, -1, -3, REFUTED),
        (-2, 0, 0, UNDECIDED),  # the limit is in the interval
        (0, 2, 0, UNDECIDED),
        (np.nan, np.nan, 0, UNDECIDED),
    ],
)
def test_below(low, high, limit, expected):
    assert below(at(low, high), limit) == expected


@pytest.mark.parametrize(
    "narrow, wide, expected",
    [
        ((-0.5, 0.5), (-0.6, 0.6), REPRODUCED),
        ((-0.9, 0.5), (-1.1, 0.7), REPRODUCED),  # the tests at 5 % each decide, not the 95 % interval
        ((0.5, 0.9), (0.4, 0.95), REPRODUCED),  # different from zero, and alike
        ((-0.5, 1.1), (-0.6, 1.2), UNDECIDED),
        ((-1.1, 0.5), (-1.2, 0.6), UNDECIDED),
        ((-9, 9), (-12, 12), UNDECIDED),  # that the interval contains zero shows nothing
        ((1.1, 2.0), (0.9, 2.2), UNDECIDED),
        ((1.2, 2.0), (1.1, 2.1), REFUTED),
        ((-2.0, -1.2), (-2.1, -1.1), REFUTED),
        ((np.nan, np.nan), (np.nan, np.nan), UNDECIDED),
    ],
)
def test_equivalent(narrow, wide, expected):
    assert equivalent(at(*narrow), at(*wide), margin=1) == expected


def shares(decide, truth, seeds=4, draws=4000):
    """{outcome: in which share of simulated experiments}: ``seeds`` normal values about ``truth`` with deviation 1."""
    values = truth + np.random.default_rng(0).normal(size=(draws, seeds))
    outcomes = [decide(row) for row in values]
    return {outcome: outcomes.count(outcome) / draws for outcome in OUTCOMES}


def one_sided(values):
    return below(Interval(*statistics.student(values), len(values)))


def two_sided(margin):
    def decide(values):
        narrow, wide = (
            Interval(*statistics.student(values, level), len(values)) for level in (0.9, statistics.LEVEL)
        )
        return equivalent(narrow, wide, margin)

    return decide


NOISE = 4 * (0.05 / 4000) ** 0.5  # four standard errors of a share of 0.05 among as many draws


def test_a_claim_at_its_limit_is_decided_in_one_of_twenty_experiments():
    """Each way in 2.5 of 100, and undecided in the rest: Student's interval covers the truth in 95 of 100."""
    found = shares(one_sided, 0.0)
    assert found[REPRODUCED] == pytest.approx(0.025, abs=NOISE)
    assert found[REFUTED] == pytest.approx(0.025, abs=NOISE)
    assert found[UNDECIDED] == pytest.approx(0.95, abs=NOISE)


@pytest.mark.parametrize("truth, wanted, wrong", [(-6, REPRODUCED, REFUTED), (6, REFUTED, REPRODUCED)])
def test_an_effect_that_is_large_enough_is_decided_the_right_way(truth, wanted, wrong):
    found = shares(one_sided, truth)
    assert found[wanted] > 0.99 and found[wrong] == 0


def test_half_the_width_is_what_an_effect_had_to_exceed():
    """Known errors: an effect of one half-width is shown in half of the experiments, of none in 1 of 40, of two in 39."""
    half = normal(0, 1).high
    for effect, power in ((0, 0.025), (half, 0.5), (2 * half, 0.975)):
        found = shares(lambda values: below(normal(values[0], 1.0)), -effect, seeds=1)
        assert found[REPRODUCED] == pytest.approx(power, abs=0.035 if power == 0.5 else NOISE)


@pytest.mark.parametrize("margin", [3.0, -3.0])
def test_what_differs_by_the_margin_passes_as_alike_in_one_of_twenty(margin):
    """The error rate of two one-sided tests, whose other bound is far away: 5 %, not the 2.5 % or 10 % of mistaken levels."""
    found = shares(two_sided(3.0), margin)
    assert found[REPRODUCED] == pytest.approx(0.05, abs=NOISE)
    assert found[REFUTED] == pytest.approx(0.025, abs=NOISE)


def test_what_is_alike_is_reproduced_only_where_the_design_can_show_it():
    """Zero difference: shown with a margin of many standard errors, undecided with one of a tenth; never refuted by much."""
    wide = shares(two_sided(6.0), 0.0)
    assert wide[REPRODUCED] > 0.98 and wide[REFUTED] < 0.001
    narrow = shares(two_sided(0.05), 0.0)
    assert narrow[REPRODUCED] < 0.01 and narrow[UNDECIDED] > 0.9 and narrow[REFUTED] < 0.05 + NOISE
    apart = shares(two_sided(1.0), 8.0)
    assert apart[REFUTED] > 0.98 and apart[REPRODUCED] == 0


@pytest.mark.parametrize(
    "outcomes, expected",
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, UNDECIDED], UNDECIDED),
        ([REPRODUCED, REFUTED], REFUTED),
        ([UNDECIDED, REFUTED], REFUTED),
        ([REPRODUCED, None], None),
        ([UNDECIDED, None], None),
        ([REFUTED, None], REFUTED),
        ([], None),
    ],
)
def test_every(outcomes, expected):
    assert every(outcomes) is every(outcomes[::-1]) is expected


def test_intersection_union_keeps_its_level():
    """One of five parts is exactly null, the others hold: all five pass together in at most 2.5 % of cases."""
    generator, n, passed = np.random.default_rng(6), 1500, 0
    for _ in range(n):
        means = np.array([0, -9, -9, -9, -9])
        passed += every(one_sided(mean + generator.normal(size=3)) for mean in means) == REPRODUCED
    assert passed / n < 0.025 + 3 * (0.025 / n) ** 0.5


def parts(counts):
    """``counts``: how many reproduced, undecided and refuted parts, in an order that helps nobody."""
    made = [
        Part(f"{outcome} {k}", at(k, k + 1), outcome)
        for outcome, count in zip(OUTCOMES, counts, strict=True)
        for k in range(count)
    ]
    return [made[k] for k in np.random.default_rng(0).permutation(len(made))]


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("counts", [(a, b, c) for a in range(3) for b in range(3) for c in range(3)])
def test_at_least_so_many_by_counting(counts, missing):
    """A missing part may be any: decided is only what holds whatever it is."""
    shown, open_ones, _ = counts
    for count in range(1, sum(counts) + missing + 1):
        chosen, among = best(parts(counts), missing, count)
        outcome = every([part.outcome for part in chosen] + [None] * among)
        if shown >= count:
            expected = REPRODUCED
        elif shown + open_ones + missing < count:
            expected = REFUTED
        else:
            expected = None if missing else UNDECIDED
        assert outcome == expected, (counts, missing, count)
        assert len(chosen) <= count


def test_the_best_of_equals_are_those_whose_intervals_reach_less_high():
    chosen, among = best(parts((3, 0, 1)), 0, 2)
    assert {part.where for part in chosen} == {"reproduced 0", "reproduced 1"} and not among
