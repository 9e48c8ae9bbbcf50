"""The GFlowNet over partial bit strings, against the sum over all orders."""

import math

import pytest
import torch
from helpers.bit_pairs import (
    LENGTH,
    all_orders,
    close,
    domain,
    every_trajectory,
    exact_elbo,
    gradient,
    pair_of,
)
from torch import nn

from mlegfn.bits.filling import EMPTY, BitFilling
from mlegfn.bits.network import FULL_DIGITS, REACH, BitNetwork, signs
from mlegfn.bits.objective import (
    backward_loss,
    consistency_loss,
    forward_loss,
    log_policies,
    reward_to_go,
    times,
)
from mlegfn.data import gray
from mlegfn.objectives.bounds import importance_weighted
from mlegfn.randomness import generator
from mlegfn.trajectory import score

SIGMAS = 5.0  # of a fixed seed


KINDS = ("uniform", "learned", "ordered")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def exact_log_prob(pair, x):
    """[N]: log p(x) by adding up P_F over the lattice of subsets, smallest first."""
    length = x.shape[1]
    log_f = {0: torch.zeros(len(x), dtype=torch.float64)}
    for subset in range(2**length):
        inside = torch.tensor([subset >> i & 1 for i in range(length)], dtype=torch.bool)
        terms = log_f.pop(subset) if subset == 0 else torch.stack(log_f.pop(subset)).logsumexp(0)
        if subset == 2**length - 1:
            return terms
        fills = pair.fills(x, torch.where(inside, x, EMPTY))
        for i in range(length):
            if not inside[i]:
                log_f.setdefault(subset | 1 << i, []).append(terms + fills[:, i])


def log_weights(pair, x, count, rng):
    """log w [N, count] of ``count`` trajectories of P_B from each x."""
    xs = x.repeat_interleave(count, 0)
    steps = pair.orders(xs, rng)
    log_w = log_policies(pair, xs, steps, backward=False) - log_policies(pair, xs, steps, backward=True)
    return log_w.sum(1).view(len(x), count)


@torch.no_grad()
def test_probabilities_add_up_and_the_bounds_reach_them(kind):
    pair, x = pair_of(kind), domain()
    log_p = exact_log_prob(pair, x)
    assert abs(log_p.exp().sum().item() - 1) < 1e-12
    log_pf, log_pb = (each.sum(2) for each in every_trajectory(pair, x))
    assert torch.allclose(log_pb.logsumexp(1), torch.zeros(len(x), dtype=torch.float64), atol=1e-12)
    if kind != "ordered":
        assert torch.allclose(log_pf.logsumexp(1), log_p, atol=1e-12)
    count = 1 if kind == "ordered" else 4000
    log_w = log_weights(pair, x, count, generator(0, kind))
    if kind == "ordered":
        assert torch.allclose(log_w[:, 0], log_p, atol=1e-12)
    else:
        error = log_w.exp().std(1) / math.sqrt(count)
        assert ((log_w.logsumexp(1) - math.log(count)).exp() - log_p.exp()).abs().lt(SIGMAS * error).all()
        # The bound rises with K: one trajectory, eight, all
        eight = importance_weighted(log_w.view(-1, 8)).view(len(x), -1).mean(1)
        assert (log_w.mean(1) < eight).all() and (eight < log_p + SIGMAS * error / log_p.exp()).all()


@torch.no_grad()
def test_a_mismatched_backward_policy_is_detected():
    """Orders of one P_B, weighted as if another had made them: E[w] is not p(x)."""
    pair, other, x = pair_of("learned"), pair_of("uniform"), domain()
    rng = generator(0, "mismatch")
    xs = x.repeat_interleave(4000, 0)
    steps = other.orders(xs, rng)
    log_w = (log_policies(pair, xs, steps, False) - log_policies(pair, xs, steps, True)).sum(1).view(16, -1)
    error = log_w.exp().std(1) / math.sqrt(4000)
    wrong = (log_w.exp().mean(1) - exact_log_prob(pair, x).exp()).abs() / error
    assert wrong.max() > 3 * SIGMAS


@torch.no_grad()
def test_samples_have_the_exact_probabilities(kind):
    pair, x, count = pair_of(kind), domain(), 40_000
    states = pair.sample_pf((count, LENGTH), generator(0, "sample", kind))
    assert [(state == EMPTY).sum(1).unique().tolist() for state in states] == [[t] for t in range(5)]
    code = (
        (states[0] << torch.arange(LENGTH)).sum(1).bincount(minlength=16)[(x << torch.arange(LENGTH)).sum(1)]
    )
    p = exact_log_prob(pair, x).exp()
    assert (code / count - p).abs().lt(SIGMAS * (p * (1 - p) / count).sqrt()).all()


@torch.no_grad()
def test_it_is_a_markov_pair(kind):
    pair, x = pair_of(kind), domain()
    for draw in (
        pair.sample_pb(x, generator(0, "pair")),
        pair.sample_pf((16, LENGTH), generator(0, "pair", 1)),
    ):
        scored = score(pair, draw)
        assert scored.log_w.isfinite().all() or kind == "ordered"
        filled = draw != EMPTY
        steps = filled.sum(0)  # an entry filled in k of the 5 states is emptied at step k
        assert torch.allclose(scored.log_pf.T, log_policies(pair, draw[0], steps, False), atol=1e-12)
        assert torch.allclose(scored.log_pb.T, log_policies(pair, draw[0], steps, True), atol=1e-12)
        t = torch.full((16,), 2)
        for x_prev, x_t in ((draw[2], draw[2]), (draw[0], draw[2]), (1 - draw[1].clamp(min=0), draw[2])):
            assert pair.log_pf(x_prev, x_t, t).eq(-math.inf).all()
            assert pair.log_pb(x_prev, x_t, t).eq(-math.inf).all()
    assert pair.log_prior(draw[0]).eq(-math.inf).all() and pair.log_prior(draw[-1]).eq(0).all()


def test_the_forward_gradient_is_the_bounds(kind):
    """The mean over all orders, weighted with P_B, and over all t."""
    pair, x = pair_of(kind), domain()
    orders, t = all_orders(), torch.arange(1, LENGTH + 1)
    rows = torch.cartesian_prod(torch.arange(16), torch.arange(len(orders)), t)
    loss = forward_loss(pair, x[rows[:, 0]], orders[rows[:, 1]], rows[:, 2:])
    weight = every_trajectory(pair, x)[1].sum(2).exp().detach().flatten().repeat_interleave(LENGTH) / LENGTH
    loss = torch.where(weight > 0, loss * weight, 0.0).sum()
    assert close(gradient(loss, pair.policy_f), -gradient(exact_elbo(pair, x).sum(), pair.policy_f))


def test_the_backward_gradient_is_the_bounds_and_a_baseline_of_all_is_not():
    """The mean over all pairs of orders."""
    pair, x = pair_of("learned"), domain()
    log_pf, log_pb = every_trajectory(pair, x)
    pairs = torch.cartesian_prod(torch.arange(24), torch.arange(24))
    weight = log_pb.sum(2).exp().detach()[:, pairs].prod(2).flatten()
    log_pf, log_pb = (each[:, pairs].flatten(0, 1) for each in (log_pf, log_pb))
    exact = gradient(exact_elbo(pair, x).sum(), pair.policy_b)
    found = gradient((weight * backward_loss(log_pf, log_pb)).sum(), pair.policy_b)
    assert close(found, -exact)
    # Minus the mean of *all* M, not of the others: for M = 2 that is half of it.
    later = (log_pf - log_pb).detach().flip(2).cumsum(2).flip(2)
    assert torch.allclose(reward_to_go((log_pf - log_pb).detach()) / 2, later - later.mean(1, keepdim=True))
    assert not close(found / 2, -exact)
    with pytest.raises(ValueError, match="two trajectories"):
        backward_loss(log_pf[:, :1], log_pb[:, :1])


def test_consistency_trains_the_policies_it_is_asked_to():
    pair, x = pair_of("learned"), domain()
    log_pf, log_pb = (each[:, :5] for each in every_trajectory(pair, x))
    log_w = (log_pf - log_pb).sum(2)
    wanted = 0.5 * (log_w[:, :, None] - log_w[:, None]).square().sum((1, 2)) / 20
    assert torch.allclose(consistency_loss(log_pf, log_pb), wanted)
    both = gradient(wanted.sum(), pair)
    for policy, ours in (("forward", pair.policy_f), ("backward", pair.policy_b)):
        log_pf, log_pb = (each[:, :5] for each in every_trajectory(pair, x))
        found = gradient(consistency_loss(log_pf, log_pb, policy).sum(), pair)
        mine = torch.cat([torch.full((p.numel(),), p in set(ours.parameters())) for p in pair.parameters()])
        assert close(found, torch.where(mine, both, 0))


class Table(nn.Module):
    """The best P_F for a uniform P_B, from a table of p(x): entries uniform, bits as p says."""

    def __init__(self, log_p):
        super().__init__()
        self.log_p = nn.Parameter(log_p)

    def forward(self, x):
        fits = ((x[:, None] == EMPTY) | (x[:, None] == domain())).all(2)  # [N, 16]
        with_one = fits[:, :, None] & (domain() == 1)
        odds = [
            torch.where(mask, self.log_p[:, None], -math.inf).logsumexp(1)
            for mask in (with_one, fits[:, :, None] & ~with_one)
        ]
        bit = torch.where(x == EMPTY, odds[0] - odds[1], 0.0)
        return torch.stack([torch.zeros_like(bit), bit], 1)


@torch.no_grad()
def test_the_datas_own_distribution_has_balance_and_the_entropy_as_its_nll():
    log_p = torch.randn(16, generator=generator(0, "table"), dtype=torch.float64).log_softmax(0)
    pair = BitFilling(LENGTH, Table(log_p))
    log_pf, log_pb = (each.sum(2) for each in every_trajectory(pair, domain()))
    assert (log_pf - log_pb - log_p[:, None]).abs().max() < 1e-12
    log_w = log_weights(pair, domain(), 3, generator(0, "table"))
    assert abs((log_p.exp() * (log_p - importance_weighted(log_w))).sum()) < 1e-12
    assert log_w.var(1).max() < 1e-20


def test_the_network_reads_plain_binary_and_is_zero_before_training():
    net = BitNetwork(32, 8, 2, outputs=2)
    x = torch.randint(-1, 2, (50, 32), generator=generator(0, "net"))
    assert net(x).shape == (50, 2, 32) and not net(x).any()
    seen = []
    net.entry.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    full = torch.randint(2, (40, 32), generator=generator(0, "full"))
    full[:, 20:] = EMPTY  # of the second coordinate's 15 digits, 3 are filled
    net(full)
    plain = seen[0][:, 64:94].view(40, 2, 15)
    digits = full.view(40, 2, 16)[:, :, 1:].cumsum(2) % 2
    assert torch.equal(plain[:, 0], signs(digits[:, 0])) and torch.equal(
        plain[:, 1, :3], signs(digits[:, 1, :3])
    )
    assert not plain[:, 1, 3:].any()
    whole = torch.randint(2, (40, 32), generator=generator(1, "full"))
    net(whole)
    torch.testing.assert_close(seen[1][:, 94:96], REACH * gray.decode(whole, 2.0**15).float())
    whole[:, 1:16] = whole[:, 17:] = EMPTY  # signs alone: the middles of the quadrants
    net(whole)
    torch.testing.assert_close(seen[2][:, 94:96], REACH / 2 * -signs(whole[:, [0, 16]]))
    # The decoded output: with b = 3 for all and a = 0, the odds of a Gray digit are ±3 by the digit above.
    nn.init.zeros_(net.exit.weight)
    net.exit.bias.data[64:] = 3.0
    odds = net(full)[:, 1].view(40, 2, 16)
    assert not odds[:, :, 0].any() and odds[:, :, 1].eq(3).all()
    scale = 2.0 ** -(torch.arange(2, 16) - FULL_DIGITS).clamp(min=0)
    assert torch.equal(odds[:, 0, 2:], -3 * scale * signs(digits[:, 0, :-1]))


def test_times_are_unbiased():
    drawn = times(20_000, 32, 5, generator(0, "times"))
    assert (drawn.diff(dim=1) >= 0).all() and drawn.min() == 1 and drawn.max() == 32
    share = drawn.flatten().bincount(minlength=33)[1:] / drawn.numel()
    assert (share - 1 / 32).abs().lt(SIGMAS * math.sqrt(1 / 32 / drawn.numel())).all()
