"""The settings of the consistency experiment: broken ones give one line each, which names the key."""

import pytest
from helpers.parts import settings_of, with_value

from mlegfn.errors import UserError
from reproduction.consistency.arms import REFERENCE, arms_of
from reproduction.consistency.settings import Consistency

SMOKE = settings_of(Consistency, "consistency")


@pytest.mark.parametrize(
    "path, value, line",
    [
        ("seeds", [0, 0], "names something twice"),
        ("weights", [-0.1, 0.1, 0.2], "must have 0, the arm that all are compared with"),
        ("weights", [0.0, 0.1, 0.2], "must have -0.1 beside 0.1: what is odd in λ is told by both"),
        ("weights", [0.0, 0.0, 0.0], "names something twice"),
        ("groups", [3], "3 does not divide trajectories, 4"),
        ("groups", [2, 2], "names something twice"),
        ("bound.rates", [0.001, 0.001], "must fall, or the optimum is not approached"),
        ("importance_samples", 5, "must be even, for half of it shows the convergence"),
        ("importance_samples", 2, "must be even, for half of it shows the convergence, and at least 4"),
        ("importance_samples_cap", 2, "must not be below importance_samples, 4"),
        ("alignment_batches", 2, "expected an integer ≥ 3"),
    ],
)
def test_what_each_mistake_says(path, value, line):
    with pytest.raises(UserError) as error:
        with_value(SMOKE, tuple(path.split(".")), value)
    assert str(error.value).startswith(f"params.yaml: {path}: {line}"), error.value
    assert "\n" not in str(error.value)


def test_arms_are_named_after_weight_and_group():
    arms = arms_of(SMOKE)
    assert list(arms) == ["bound-0.2", "bound+0", "bound+0.2", "iwae2"]
    assert REFERENCE.name in arms and arms["bound-0.2"].sign == -0.2 and arms["iwae2"].sign == -0.25
    minus_zero = SMOKE.model_copy(update={"weights": [-0.2, -0.0, 0.2]})
    assert list(arms_of(minus_zero)) == list(arms)
