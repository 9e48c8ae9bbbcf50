"""Comparisons of arms and baseline, in closed form."""

import pytest
from helpers import synthetic_images as synthetic

from reproduction.images.report import comparison

SMALL = {"checkpoints": (20, 40), "stop": 60, "evaluate_at": (4, 8)}


@pytest.fixture
def small(tmp_path):
    """Metrics of a small scale under tmp_path."""
    return synthetic.write(synthetic.settings(**SMALL), tmp_path, images=20)


def test_the_baseline_is_linear_between_saved_steps(small):
    for place, seed in enumerate(small.seeds):
        first, second = (small.baseline[step, seed].per_image for step in (20, 40))
        own = small.runs[20, "simple_tbc", seed][8].per_image
        found = comparison.differences(small, 20, "simple_tbc", "baseline", 8)[place]
        assert found == pytest.approx(own - (0.6 * first + 0.4 * second))
        at_next = comparison.differences(small, 20, "simple_tbc", "baseline_next", 8)[place]
        assert at_next == pytest.approx(own - second)


def test_arms_are_compared_seed_by_seed(small):
    for arm, reference in (("simple_tbc", "simple"), ("simple_tbc", "reweighted"), ("vlb_tbc", "vlb")):
        found = comparison.differences(small, 40, arm, reference, 4)
        assert found.shape == (3, 20)
        for row, seed in zip(found, small.seeds):
            own, other = (small.runs[40, one, seed][4].per_image for one in (arm, reference))
            assert row == pytest.approx(own - other)


def test_a_fine_tune_starts_at_its_own_baseline(small):
    x, y = comparison.curve(small, 20, "vlb_tbc")
    assert list(x) == [0, 4, 8]
    for row, seed in zip(y[0], small.seeds):
        assert row == pytest.approx(small.baseline[20, seed].per_image)


def test_equal_evaluations_meet_at_the_smaller_budget(tmp_path):
    metrics = synthetic.write(synthetic.settings(**SMALL), tmp_path, images=5, cost=1.5)
    simple, dear = (metrics.spent(20, arm, 8) for arm in ("simple", "simple_tbc"))
    assert dear == 1.5 * simple
    assert comparison.budgets(metrics, 20, "simple_tbc", "simple", "evaluations") == [0.75 * simple, simple]
    # `simple` ends at a third between the points 4 and 8 of the dearer arm
    found = comparison.differences(metrics, 20, "simple_tbc", "simple", simple, "evaluations")
    own = metrics.per_image(20, "simple_tbc", 4) * 2 / 3 + metrics.per_image(20, "simple_tbc", 8) / 3
    assert found == pytest.approx(own - metrics.per_image(20, "simple", 8))


def test_no_comparison_before_the_first_measured_point(tmp_path):
    metrics = synthetic.write(synthetic.settings(**SMALL), tmp_path, images=5, cost=10)
    assert comparison.budgets(metrics, 20, "simple_tbc", "simple", "evaluations") == []
    assert comparison.budgets(metrics, 20, "simple_tbc", "simple", "steps") == [4, 8]


def test_the_baseline_ends_the_comparison(tmp_path):
    settings = synthetic.settings(**{**SMALL, "stop": 46})
    metrics = synthetic.write(settings, tmp_path, images=5)
    assert comparison.budgets(metrics, 40, "simple_tbc", "baseline") == [4, 6]
    assert comparison.budgets(metrics, 40, "simple_tbc", "baseline_next") == [4]
