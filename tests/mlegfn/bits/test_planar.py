"""Planar problems as bits: the kernel, the order of the digits, likelihoods beside the entropy, draws by key."""

import math

import pytest
import torch
from torch import nn

from mlegfn.bits import planar
from mlegfn.bits.filling import EMPTY, BitFilling
from mlegfn.data import gray
from mlegfn.objectives.bounds import importance_weighted
from mlegfn.randomness import generator

DOMAIN = torch.cartesian_prod(*[torch.arange(2)] * 4)


def test_the_kernel_is_exponential_in_the_hamming_distance():
    x, y = (torch.randint(2, (30, 32), generator=generator(0, k)) for k in "xy")
    kernel = [torch.exp(-0.1 * (a[:, None] != b[None]).sum(2).double()) for a, b in ((x, x), (y, y), (x, y))]
    within = sum((k.sum() - 30) / (30 * 29) for k in kernel[:2])
    # The library's exponentials are float32: 1e-7 of each.
    assert planar.hamming_mmd(x, y) == pytest.approx((within - 2 * kernel[2].mean()).item(), abs=1e-6)


def test_significance_empties_the_last_digits_first():
    assert planar.significance().tolist() == [*range(32, 0, -2), *range(31, 0, -2)]


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
    log_w = planar.log_weights(pair, DOMAIN, 3, generator(0, "table"))
    assert (log_w - log_p[:, None]).abs().max() < 1e-12
    assert abs((log_p.exp() * (log_p - importance_weighted(log_w))).sum()) < 1e-12
    fields = planar.likelihood_fields("moons", log_w, log_p)
    assert fields["nll"] == pytest.approx(gray.data_entropy("moons"), abs=1e-12)
    assert fields["nll_standard_error"] < 1e-12 and fields["log_w_variance"] < 1e-20
    wrong = planar.likelihood_fields("moons", log_w.roll(1, 0), log_p)
    assert wrong["nll_standard_error"] > 0.01  # where the model is another, it is not the entropy


def test_draws_are_functions_of_their_key():
    one = planar.draw("moons", 20, 0, "train", 3)
    assert torch.equal(one, planar.draw("moons", 20, 0, "train", 3))
    assert not torch.equal(one, planar.draw("moons", 20, 0, "train", 4))
    assert not torch.equal(one, planar.draw("moons", 20, 1, "train", 3))
    bits, truth = planar.tested("moons", 20_000, 0)
    assert bits.shape == (20_000, gray.BITS) and truth.shape == (20_000,)
    error = truth.std().item() / 20_000**0.5
    assert abs(-truth.mean().item() - gray.data_entropy("moons")) < 4 * error
