"""Training on a planar problem as 32 bits: kernels, arms, likelihoods."""

import math

import pytest
import torch
from helpers.parts import Kept, settings_of
from torch import nn

from mlegfn.bits.filling import EMPTY, BitFilling
from mlegfn.data import gray
from mlegfn.objectives.bounds import importance_weighted
from mlegfn.randomness import generator
from reproduction.bits import experiment as bits
from reproduction.bits.settings import Bits
from reproduction.bits.train import measure

SMOKE = settings_of(Bits, "bits")
DOMAIN = torch.cartesian_prod(*[torch.arange(2)] * 4)


def test_the_kernel_is_exponential_in_the_hamming_distance():
    x, y = (torch.randint(2, (30, 32), generator=generator(0, k)) for k in "xy")
    kernel = [torch.exp(-0.1 * (a[:, None] != b[None]).sum(2).double()) for a, b in ((x, x), (y, y), (x, y))]
    within = sum((k.sum() - 30) / (30 * 29) for k in kernel[:2])
    # The library's exponentials are float32: 1e-7 of each.
    assert bits.hamming_mmd(x, y) == pytest.approx((within - 2 * kernel[2].mean()).item(), abs=1e-6)


def test_significance_empties_the_last_digits_first():
    assert bits.significance().tolist() == [*range(32, 0, -2), *range(31, 0, -2)]


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


class Table(nn.Module):
    """The best P_F for a uniform P_B, from a table of p(x): entries uniform, bits as p says."""

    def __init__(self, log_p):
        super().__init__()
        self.log_p = nn.Parameter(log_p)

    def forward(self, x):
        fits = ((x[:, None] == EMPTY) | (x[:, None] == DOMAIN)).all(2)  # [N, 16]
        with_one = fits[:, :, None] & (DOMAIN == 1)
        odds = [
            torch.where(mask, self.log_p[:, None], -math.inf).logsumexp(1)
            for mask in (with_one, fits[:, :, None] & ~with_one)
        ]
        bit = torch.where(x == EMPTY, odds[0] - odds[1], 0.0)
        return torch.stack([torch.zeros_like(bit), bit], 1)


@torch.no_grad()
def test_the_datas_own_distribution_has_the_entropy_as_its_nll():
    log_p = torch.randn(16, generator=generator(0, "table"), dtype=torch.float64).log_softmax(0)
    pair = BitFilling(4, Table(log_p))
    log_w = bits.log_weights(pair, DOMAIN, 3, generator(0, "table"))
    assert (log_w - log_p[:, None]).abs().max() < 1e-12
    assert abs((log_p.exp() * (log_p - importance_weighted(log_w))).sum()) < 1e-12
    fields = bits.likelihood_fields("moons", log_w, log_p)
    assert fields["nll"] == pytest.approx(gray.data_entropy("moons"), abs=1e-12)
    assert fields["nll_standard_error"] < 1e-12 and fields["log_w_variance"] < 1e-20
    wrong = bits.likelihood_fields("moons", log_w.roll(1, 0), log_p)
    assert wrong["nll_standard_error"] > 0.01  # where the model is another, it is not the entropy
