"""Training on a planar problem as 32 bits: kernels, arms, likelihoods."""

import math

import pytest
import torch
from helpers.parts import Kept, settings_of

from reproduction.bits import experiment as bits
from reproduction.bits.settings import Bits
from reproduction.bits.train import measure

SMOKE = settings_of(Bits, "bits")
DOMAIN = torch.cartesian_prod(*[torch.arange(2)] * 4)


@pytest.mark.parametrize("arm", bits.ARMS)
def test_fits_are_reproducible_and_count_what_they_evaluate(arm):
    seen = {"forward": 0, "backward": 0}
    plain = bits.new_pair

    def counting(*arguments):
        pair = plain(*arguments)
        for name, policy in (("forward", pair.policy_f), ("backward", pair.policy_b)):
            if policy is not None:
                policy.register_forward_pre_hook(
                    lambda _, args, name=name: seen.update({name: seen[name] + len(args[0])})
                )
        return pair

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bits, "new_pair", counting)
        pair, spent = bits.fit("moons", arm, SMOKE, seed=3)
    assert seen == {name: spent[name] for name in seen}
    assert spent["points"] == SMOKE.steps * SMOKE.batch
    again, _ = bits.fit("moons", arm, SMOKE, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(pair.parameters(), again.parameters()))


def test_training_learns_an_order_free_and_an_ordered_model():
    """60 steps take off most of what there is to learn, and the importance-weighted bound is above the ELBO."""
    settings = SMOKE.model_copy(
        update={"steps": 60, "batch": 256, "hidden": 32, "lr": 0.02, "times": 8, "test_points": 200}
    )
    settings = settings.model_copy(update={"arms": ["random", "ordered"], "seeds": [0]})
    metrics, samples = measure("8gaussians", settings, Kept())
    uniform = 32 * math.log(2)
    for run in metrics["runs"]:
        assert run["nll"] - metrics["entropy"] < 0.5 * (uniform - metrics["entropy"])
        assert run["nll"] <= run["elbo_nll"] + 1e-9
    assert set(samples) == {"data", "random", "ordered"}
