"""The settings of the planar problems as bits: broken ones give one line each, which names the key."""

import pytest
from helpers.parts import settings_of, with_value

from mlegfn.errors import UserError
from reproduction.bits.experiment import ARMS
from reproduction.bits.settings import Bits

SMOKE = settings_of(Bits, "bits")


@pytest.mark.parametrize(
    "path, value, line",
    [
        ("seeds", [1, 1], "names something twice"),
        ("arms", ["random", "random"], "names something twice"),
        (
            "arms",
            ["sorted"],
            "expected one of random, random_tbc, learned, learned_tbc, ordered, got 'sorted'",
        ),
        ("times", 33, "must be at most 32, the steps of a trajectory"),
        ("backward_points", 9, "must be at most batch, 8"),
        ("mmd_points", 17, "must be at most sample_points, 16"),
        ("decoded", "yes", "expected true or false, got 'yes'"),
        ("policy", "none", "expected one of forward, backward, both, got 'none'"),
    ],
)
def test_what_each_mistake_says(path, value, line):
    with pytest.raises(UserError) as error:
        with_value(SMOKE, (path,), value)
    assert str(error.value).removeprefix(f"params.yaml: {path}").removeprefix("[0]") == f": {line}"


def test_the_arms_of_the_settings_are_those_of_the_experiment():
    assert with_value(SMOKE, ("arms",), list(ARMS)).arms == list(ARMS)
