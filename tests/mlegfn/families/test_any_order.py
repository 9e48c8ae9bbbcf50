"""Any-order models: the ELBO is strict, TBC and a learned P_B tighten it, and a discrete P_B's gradient is right.

Everything is enumerated, in float64: 1e-12 nats are sums of some hundred terms of order 1, and gradients agree to
1e-10 relative, a hundred times below what is asked.
"""

import itertools

import pytest
import torch
from scipy.stats import ttest_1samp

from mlegfn.families.any_order import AnyOrder
from mlegfn.families.shared.comparing import gradient, relative
from mlegfn.families.shared.orders.levels import EMPTY, all_of
from mlegfn.families.shared.orders.subsets import exact, orders
from mlegfn.families.shared.orders.tightening import policies, tightened
from mlegfn.objectives.consistency import consistency
from mlegfn.objectives.kl_balance import kl_trajectory_balance
from mlegfn.randomness import generator, seed_layers

NATS = {"rtol": 0, "atol": 1e-12}


def build(length, levels, backward_hidden=8, seed=0):
    with torch.random.fork_rng([]):
        seed_layers(seed, "test_any_order")
        return AnyOrder(length, levels, 8, backward_hidden, torch.float64)


def enumerated(model, x):
    """(log P_F(τ), log P_B(τ|x)), [N, D!] each."""
    states = orders(x)
    return policies(model, states.flatten(1, 2), states.shape[2])


@pytest.mark.parametrize("length, levels", [(1, 3), (3, 3), (4, 2), (5, 2)])
@pytest.mark.parametrize("backward_hidden", [None, 8])
def test_the_sum_over_subsets_is_the_sum_over_all_orders(length, levels, backward_hidden):
    model = build(length, levels, backward_hidden)
    x = all_of(length, levels)
    forward, backward = enumerated(model, x)
    log_w, weight = forward - backward, backward.exp()
    found = exact(model, x)
    torch.testing.assert_close(weight.sum(1), torch.ones(len(x), dtype=torch.float64), **NATS)
    torch.testing.assert_close(found.log_p, forward.logsumexp(1), **NATS)
    torch.testing.assert_close(found.elbo, (weight * log_w).sum(1), **NATS)
    variance = (weight * (log_w - found.elbo[:, None]).square()).sum(1)
    torch.testing.assert_close(found.variance, variance, rtol=0, atol=1e-11)  # a difference of squares
    torch.testing.assert_close(found.posterior, found.log_p, **NATS)
    assert found.log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("length", [4, 5, 6])
@pytest.mark.parametrize("backward_hidden", [None, 8])
def test_the_bound_is_strict(length, backward_hidden):
    """For every x, because a network's orders disagree; with entries that ignore each other they do not."""
    x = all_of(length, 2)
    model = build(length, 2, backward_hidden)
    with torch.no_grad():
        found = exact(model, x)
        assert (found.log_p - found.elbo > 1e-6).all() and (found.variance > 1e-6).all()
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                parameter.zero_()
        if model.backward_policy is not None:  # the places too must not matter
            for policy in (model.forward_policy, model.backward_policy):
                policy[-1].bias.zero_()
        found = exact(model, x)
    torch.testing.assert_close(found.elbo, found.log_p, **NATS)
    torch.testing.assert_close(found.variance, torch.zeros(len(x), dtype=torch.float64), **NATS)


def tuples(model, x, count):
    """Every ``count`` trajectories of each x: log P_F and log P_B [N·(D!)^count, count], and how likely, detached."""
    forward, backward = enumerated(model, x)
    rows = torch.tensor(list(itertools.product(range(forward.shape[1]), repeat=count)))
    weight = backward[:, rows].sum(2).exp().detach().flatten() / len(x)
    return forward[:, rows].flatten(0, 1), backward[:, rows].flatten(0, 1), weight


@pytest.mark.parametrize("count", [2, 3])
def test_the_estimated_gradient_is_the_enumerated_one(count):
    """E over all tuples of trajectories, for both policies; the same without the score function is wrong."""
    model = build(3, 2)
    x = all_of(3, 2)
    forward, backward, weight = tuples(model, x, count)
    value = kl_trajectory_balance(forward, backward)
    torch.testing.assert_close(value, (backward - forward).mean(1))
    for policy in (model.forward_policy, model.backward_policy):
        truth = gradient(-exact(model, x).elbo.mean(), policy.parameters())
        assert relative(gradient((weight * value).sum(), policy.parameters()), truth) < 1e-10
    pathwise = gradient((weight * (backward - forward).mean(1)).sum(), policy.parameters())
    assert pathwise.norm() < 1e-12 * len(pathwise) < truth.norm(), "E ∇ log P_B = 0: P_B would learn nothing"
    assert relative(pathwise, truth) > 0.99
    own = ((backward - forward).detach() * backward).mean(1)  # no control variate: unbiased too, and noisier
    assert relative(gradient((weight * own).sum(), policy.parameters()), truth) < 1e-10
    mean = (forward - backward).mean(
        1, keepdim=True
    )  # the mean of *all* as control variate is not: (M−1)/M of it
    biased = ((mean - forward + backward).detach() * backward).mean(1)
    shrunk = gradient((weight * biased).sum(), policy.parameters())
    assert relative(shrunk * count / (count - 1), truth) < 1e-10


def test_consistency_trains_both_policies_off_policy():
    """TBC holds the trajectories fixed. P_F's gradient is that of the exact variance; P_B's is twice KL-TB's."""
    model = build(3, 2)
    x = all_of(3, 2)
    forward, backward, weight = tuples(model, x, 2)
    estimated = (weight * consistency(forward - backward)).sum()
    found = exact(model, x)
    filled, erased = (list(policy.parameters()) for policy in (model.forward_policy, model.backward_policy))
    assert relative(gradient(estimated, filled), gradient(found.variance.mean(), filled)) < 1e-10
    assert relative(gradient(estimated, erased), -2 * gradient(found.elbo.mean(), erased)) < 1e-10
    # …which is not the gradient of the variance under P_B itself: there the trajectories move with P_B.
    assert relative(gradient(estimated, erased), gradient(found.variance.mean(), erased)) > 0.01


def test_one_step_a_datum_is_unbiased():
    """Over all sets of empty entries, weighted as they are drawn; and that is how they are drawn."""
    model = build(4, 3, None)
    x = all_of(4, 3)
    sets = all_of(4, 2).bool()[1:]
    size = sets.sum(1)
    weight = 1 / (4 * torch.tensor([4.0, 6.0, 4.0, 1.0], dtype=torch.float64)[size - 1])
    with torch.no_grad():
        every = torch.stack([model.step_bound(x, one.expand_as(x)) for one in sets])
        torch.testing.assert_close((weight[:, None] * every).sum(0), -exact(model, x).elbo, **NATS)
        drawn = model.one_step(x[:1].expand(40_000, -1), generator(0, "one step"))
    error = drawn.std() / 200
    assert (drawn.mean() + exact(model, x[:1]).elbo.detach()[0]).abs() < 5 * error < 0.1


class Mismatched(AnyOrder):
    """Trajectories by one P_B, log-probabilities by another: uniform instead of learned."""

    def log_pb(self, x_prev, x_t, t):
        return -(self.timesteps - t + 1).double().log()


def test_a_mismatched_backward_policy_is_found():
    """E w over P_B is p(x) and nothing else will do: enumerated, and by how often each entry goes first."""
    model = build(3, 3)
    with torch.no_grad():
        model.backward_policy[-1].weight.mul_(5)  # far from uniform
    wrong = Mismatched(3, 3, 8, 8, torch.float64)
    wrong.load_state_dict(model.state_dict())
    x = model.domain()
    with torch.no_grad():
        forward, backward = enumerated(model, x)
        _, other = enumerated(wrong, x)
        right = (backward.exp() * (forward - backward).exp()).sum(1)
        mixed = (backward.exp() * (forward - other).exp()).sum(1)
        torch.testing.assert_close(right, model.log_prob(x).exp(), **NATS)
        assert (mixed / right - 1).abs().max() > 0.01
    states = model.sample_pb(x[:1].expand(20_000, -1), generator(0, "mismatched"))
    first = (states[1] == EMPTY).double().mean(0)  # how often each entry is erased first
    error = 5 * 0.5 / 20_000**0.5
    assert (first - 1 / 3).abs().max() > error
    assert (first - model._backward(x[:1])[0].softmax(0).detach()).abs().max() < error


def test_steps_that_are_none_have_probability_zero():
    model = build(3, 2)
    at = torch.tensor([[0, EMPTY, EMPTY]])
    nexts = torch.tensor([[0, 1, EMPTY], [1, 1, EMPTY], [0, 1, 1], [0, EMPTY, EMPTY], [EMPTY, EMPTY, EMPTY]])
    t = torch.full((5,), 2)
    for log_probability in (model.log_pf, model.log_pb):
        assert log_probability(nexts, at.expand(5, -1), t).isfinite().tolist() == [True] + [False] * 4
        assert not log_probability(nexts[:1], at, torch.tensor([3])).isfinite()


def test_consistency_and_a_learned_policy_tighten_the_bound():
    """Same start, same steps, same data, three seeds: 95 % intervals of the differences are below 0.

    The second comparison keeps P_F, so that its log p(x) is the same and only the bound moves.
    """
    found = [tightened(AnyOrder, 250, seed) for seed in range(3)]
    start, balanced, learned = ([one[name] for one in found] for name in found[0])
    for arm in (balanced, learned):
        differences = [after["gap"] - before["gap"] for before, after in zip(start, arm)]
        assert ttest_1samp(differences, 0).confidence_interval(0.95).high < 0
    assert all(a["NLL"] == b["NLL"] for a, b in zip(start, learned))
    assert all(one["gap"] > 1e-3 for one in start)


def test_misuse():
    with pytest.raises(ValueError, match="at least 2"):
        kl_trajectory_balance(torch.zeros(3, 1), torch.zeros(3, 1))
    model = AnyOrder(64, 17, 8)
    assert model.domain() is None
    with pytest.raises(NotImplementedError):
        model.log_prob(torch.zeros(1, 64, dtype=torch.int64))
