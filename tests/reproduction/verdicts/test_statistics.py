"""Intervals against scipy and against simulation."""

import numpy as np
import pytest
from scipy import stats

from reproduction.verdicts import statistics


def test_student_is_scipys():
    values = np.random.default_rng(0).normal(3, 2, 7)
    mean, low, high = statistics.student(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((values.mean(), expected.low, expected.high))


def test_three_seeds_known_by_hand():
    # mean 2, s = 1, t_2(0.975) = 4.302653
    assert statistics.student([1.0, 2.0, 3.0]) == pytest.approx(
        (2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5)
    )


def test_one_value_has_no_interval():
    mean, low, high = statistics.student([1.5])
    assert mean == 1.5 and np.isnan(low) and np.isnan(high)
    with pytest.raises(ValueError, match="two values"):
        statistics.half_width([1.0])
    with pytest.raises(ValueError, match="two images"):
        statistics.paired([[1.0], [2.0]])


def test_one_seed_is_the_paired_t_test_over_images():
    a, b = np.random.default_rng(1).normal(size=(2, 40))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    interval = statistics.paired((a - b)[None])
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert (interval.seeds, interval.images) == (1, 40)


def test_paired_is_never_narrower_than_seeds_or_images_alone():
    differences = np.random.default_rng(2).normal(size=(3, 30))
    interval = statistics.paired(differences)
    for axis in (0, 1):
        _, low, high = statistics.student(differences.mean(axis=axis))
        assert interval.low < low and interval.high > high


@pytest.mark.parametrize("seeds, images", [(3, 40), (5, 20)])
@pytest.mark.parametrize("spread", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.3, 1, 1), (1, 1, 1)])
def test_paired_covers_at_least_95_percent(seeds, images, spread):
    generator = np.random.default_rng(3)
    of_seed, of_image, of_both = spread
    n, hit = 800, 0
    for _ in range(n):
        differences = (
            of_seed * generator.normal(size=(seeds, 1)) / 4
            + of_image * generator.normal(size=(1, images))
            + of_both * generator.normal(size=(seeds, images))
        )
        interval = statistics.paired(differences)
        hit += interval.low <= 0 <= interval.high
    assert hit / n > 0.95 - 3 * (0.05 * 0.95 / n) ** 0.5


def test_seeds_alone_would_not_cover_images():
    """The negative control: with image effects, an interval over three seeds that share them misses often."""
    generator, n, hit = np.random.default_rng(4), 400, 0
    for _ in range(n):
        differences = generator.normal(size=(1, 30)) + 0.1 * generator.normal(size=(3, 30))
        _, low, high = statistics.student(differences.mean(axis=1))
        hit += low <= 0 <= high
    assert hit / n < 0.6


def test_bootstrap_agrees_with_theory_where_there_are_many_seeds():
    generator = np.random.default_rng(5)
    differences = generator.normal(size=(60, 1)) + generator.normal(size=(1, 60)) + 0.01
    low, high = statistics.bootstrap(differences, draws=2000)
    wide = statistics.paired(differences)
    assert (low, high) == pytest.approx((wide.low, wide.high), abs=0.08)
    assert (low, high) == statistics.bootstrap(differences, draws=2000)
