"""Identities of gradients on bit strings, by listing every trajectory: TBC on P_B, and two losses of P_F."""

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

from mlegfn.bits.objective import backward_loss, consistency_loss, forward_loss


def over_all_pairs(pair, x, loss):
    """Σ over x of the mean of ``loss`` [N] over all pairs of trajectories of P_B, their chances held fixed."""
    log_pf, log_pb = every_trajectory(pair, x)
    pairs = torch.cartesian_prod(torch.arange(24), torch.arange(24))
    chance = log_pb.sum(2).exp().detach()[:, pairs].prod(2).flatten()
    log_pf, log_pb = (each[:, pairs].flatten(0, 1) for each in (log_pf, log_pb))
    return (chance * loss(log_pf, log_pb)).sum()


@pytest.mark.parametrize("kind", ["learned", "entries"])
def test_consistency_on_the_backward_policy_is_twice_the_bounds_gradient(kind):
    """E[∇Var] = 2 ∇(−ELBO) for P_B, of a network and of one logit an entry; so half of it is the score function's."""
    pair, x = pair_of(kind), domain()
    exact = -gradient(exact_elbo(pair, x).sum(), pair.policy_b)
    assert exact.norm() > 0.01
    value = over_all_pairs(pair, x, lambda f, b: consistency_loss(f, b, "backward"))
    found = gradient(value, pair.policy_b)
    assert close(found, 2 * exact) and not close(found, exact)
    assert not gradient(
        over_all_pairs(pair, x, lambda f, b: consistency_loss(f, b, "backward")), pair.policy_f
    ).any()
    score = gradient(over_all_pairs(pair, x, backward_loss), pair.policy_b)
    assert close(score, exact) and close(found / 2, score)


def test_for_the_forward_policy_it_fails():
    """E[∇Var] = 2 ∇(−ELBO) needs E[∇log P] = 0, which P_F has not over trajectories of P_B."""
    pair, x = pair_of("entries"), domain()
    exact = -gradient(exact_elbo(pair, x).sum(), pair.policy_f)
    found = gradient(over_all_pairs(pair, x, lambda f, b: consistency_loss(f, b, "forward")), pair.policy_f)
    assert torch.cosine_similarity(found, exact, dim=0) < 0.9


def test_a_single_entry_has_the_expectation_of_the_average_and_more_variance():
    """Of the loss and of its gradient for P_F, over all orders and times of one x."""
    pair, x = pair_of("uniform"), domain()[6:7]
    rows = torch.cartesian_prod(torch.arange(24), torch.arange(1, LENGTH + 1))
    orders, t, xs = all_orders()[rows[:, 0]], rows[:, 1:], x.expand(len(rows), -1)
    values, mean, variance = {}, {}, {}
    for average in (False, True):
        loss = forward_loss(pair, xs, orders, t, average)
        values[average] = loss.mean()
        each = torch.stack(
            [gradient(forward_loss(pair, xs[k : k + 1], orders[k : k + 1], t[k : k + 1], average).sum(), pair.policy_f)
             for k in range(len(rows))]
        )  # fmt: skip
        mean[average] = each.mean(0)
        variance[average] = (each - mean[average]).square().sum(1).mean()
    assert values[False].item() == pytest.approx(values[True].item(), rel=1e-12)
    assert close(mean[False], mean[True])
    assert close(mean[True], -gradient(exact_elbo(pair, x).sum(), pair.policy_f))
    assert variance[True] < 0.8 * variance[False]
    wrong = forward_loss(pair, xs, orders, t, True) * t[:, 0]  # a sum over entries where the mean belongs
    assert not close(gradient(wrong.mean(), pair.policy_f), mean[False])


@pytest.mark.parametrize("kind, default", [("uniform", True), ("learned", False), ("entries", False)])
def test_the_average_is_taken_where_it_may_be_and_refused_elsewhere(kind, default):
    pair, x = pair_of(kind), domain()
    orders, t = all_orders()[:16], torch.full((16, 1), 3)
    given = forward_loss(pair, x, orders, t)
    assert torch.equal(given, forward_loss(pair, x, orders, t, default))
    if default:
        assert not torch.equal(given, forward_loss(pair, x, orders, t, False))
    else:
        with pytest.raises(ValueError, match="for a uniform P_B only"):
            forward_loss(pair, x, orders, t, True)
