"""The settings of the planar experiment: broken ones give one line each, which names the key."""

import pytest
from helpers.parts import settings_of, with_value

from mlegfn.errors import UserError
from reproduction.planar.settings import Planar

SMOKE = settings_of(Planar, "planar")


@pytest.mark.parametrize(
    "path, value, line",
    [
        ("seeds", [0, 0], "names something twice"),
        ("seeds", [], "expected a list (at least one), each an integer ≥ 0, got []"),
        ("arms", ["simple", "simple", "vlb_tbc"], "names something twice"),
        ("arms", ["simple", "vlb"], "must be simple and vlb_tbc, which the figure compares"),
        ("importance_samples", 3, "must be even: half of it shows the convergence"),
        ("importance_samples_cap", 2, "must not be below importance_samples, 4"),
        ("mmd_points", 17, "must be at most sample_points, 16"),
        ("precision", 0, "expected a number > 0, got 0"),
        ("diffusion.beta_end", 1e-9, "must not be below beta_start"),
        ("diffusion.variance", "tiny", "expected one of large, small, analytic, learned, got 'tiny'"),
        ("consistency.policy", "backward", "expected forward, got 'backward'"),
        ("consistency.weight", -1.0, "expected a number ≥ 0, got -1.0"),
    ],
)
def test_what_each_mistake_says(path, value, line):
    with pytest.raises(UserError) as error:
        with_value(SMOKE, tuple(path.split(".")), value)
    assert str(error.value).startswith(f"params.yaml: {path}: {line}"), error.value
    assert "\n" not in str(error.value)


def test_a_chain_has_at_most_as_many_steps_as_the_diffusion():
    assert with_value(SMOKE, ("consistency", "chain_steps"), 5)  # `full` does not read it
    respaced = with_value(SMOKE, ("consistency", "chain"), "respaced")
    with pytest.raises(UserError, match=r"consistency\.chain_steps: must be at most diffusion\.timesteps, 4"):
        with_value(respaced, ("consistency", "chain_steps"), 5)
