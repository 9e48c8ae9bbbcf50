"""Intervals from a standard error, and over seeds."""

import numpy as np
import pytest
from scipy import stats

from reproduction.verdicts.evidence import normal, over_seeds


@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_normal_is_scipys(level):
    interval = normal(-2.5, 0.3, level)
    assert (interval.low, interval.high) == pytest.approx(stats.norm(-2.5, 0.3).interval(level))
    assert (interval.estimate, interval.seeds, interval.images) == (-2.5, 1, None)


def test_a_standard_error_of_zero_leaves_no_width():
    assert normal(1.0, 0.0)[:3] == (1.0, 1.0, 1.0)


def test_several_seeds_speak_for_themselves_and_one_by_its_own_error():
    values = np.array([1.0, 2.0, 4.0])
    several = over_seeds(values, standard_error=1e9)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (several.low, several.high) == pytest.approx((expected.low, expected.high))
    assert several.seeds == 3
    assert over_seeds(values[:1], standard_error=0.3) == normal(1.0, 0.3)
