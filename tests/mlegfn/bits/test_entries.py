"""P_B of one logit an entry: its orders have the chances that its steps say, and nearby ones share their draws."""

import math

import pytest
import torch
from helpers.bit_pairs import LENGTH, all_orders, domain, every_trajectory, pair_of

from mlegfn.bits.entries import EntryLogits, soft_order
from mlegfn.bits.filling import BitFilling
from mlegfn.bits.planar import significance
from mlegfn.randomness import generator

SIGMAS = 5.0  # of a fixed seed


@torch.no_grad()
def test_orders_have_the_chances_that_the_steps_say():
    pair, count = pair_of("entries"), 40_000
    assert pair.policy_b.logits.std() > 0.1, "no uniform one"
    chance = every_trajectory(pair, domain()[3:4])[1].sum(2).exp()[0]
    assert chance.sum().item() == pytest.approx(1, abs=1e-12)
    drawn = pair.orders(domain()[3:4].expand(count, -1), generator(0, "entries"))
    share = (drawn[:, None] == all_orders()).all(2).double().mean(0)
    assert (share - chance).abs().lt(SIGMAS * (chance * (1 - chance) / count).sqrt()).all()


@torch.no_grad()
def test_orders_share_their_noise():
    zero, soft = EntryLogits(torch.zeros(32)), EntryLogits(soft_order(significance(), 0.001))
    one, other = (each.orders(2000, generator(0, "shared")) for each in (zero, soft))
    assert (one == other).double().mean() > 0.85, "of independent orders a 32nd part is equal"
    assert torch.equal(one.sort(1)[0], torch.arange(1, 33).expand(2000, -1))


@torch.no_grad()
def test_a_soft_order_is_sharp_in_the_limit_and_e_to_the_sharpness_between_neighbours():
    steps = torch.tensor([2, 1, 4, 3])
    hard = EntryLogits(soft_order(steps, 1000.0))
    assert torch.equal(hard.orders(50, generator(0, "hard")), steps.expand(50, -1))
    pair = BitFilling(LENGTH, pair_of("uniform").policy_f, EntryLogits(soft_order(steps, 0.5)).double())
    first = pair.empties(domain()[:1])[0]
    assert first[1] - first[0] == pytest.approx(0.5) and first[0] - first[3] == pytest.approx(0.5)
    assert math.isclose(first.exp().sum().item(), 1)
