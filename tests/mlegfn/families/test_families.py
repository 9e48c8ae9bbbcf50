"""Properties that every model family must have, over whatever files there are in mlegfn.families.

Where x can be enumerated, sampling frequencies are compared with log-probabilities; elsewhere with an integral that
is known, by importance weights:

    P_F is what it says:  E_{τ ~ P_F} [φ(x) P_B(τ|x) / P_F(τ)] = ∫ φ = 1    for any density φ of x,
    P_B is what it says:  E_{x ~ φ, τ ~ P_B(·|x)} [P_F(τ) / (P_B(τ|x) φ(x))] = ∫ p = 1.

Both are wrong as soon as samples and log-probabilities of either policy do not belong together.
"""

import math

import pytest
import torch
from helpers.sampled import (
    COUNT,
    SIGMAS,
    sampled_backward,
    sampled_forward,
    shape_of,
)
from helpers.settings import family_settings
from safetensors.torch import load, save

from mlegfn import families
from mlegfn.families.shared.family import Check, Family, Fit
from mlegfn.families.shared.fitting import log_weights
from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.randomness import generator
from mlegfn.trajectory import score


@pytest.fixture(scope="module", params=families.names())
def name(request):
    return request.param


@pytest.fixture(scope="module")
def family(name):
    return families.load(name)


@pytest.fixture(scope="module")
def model(family):
    return family.tiny()


@pytest.fixture(scope="module", params=[sampled_forward, sampled_backward])
def sampled(request, model):
    return request.param(model)


def test_it_says_what_it_is(family):
    assert issubclass(family, Family) and family.__doc__
    assert family.title and family.objective and family.data and len(family.policies) == 2
    assert family.deterministic in ("neither", "P_F", "P_B", "both")
    assert isinstance(family.order, int)


def test_orders_differ():
    orders = [families.load(name).order for name in families.names()]
    assert len(set(orders)) == len(orders)


def test_samples_are_scored_as_they_are_drawn(sampled):
    assert sampled.deviation(sampled.log_w) < SIGMAS


def test_frequencies_are_probabilities(model):
    """χ² of sampled x against exact log p(x), where both exist."""
    domain = model.domain()
    if domain is None:
        pytest.skip("x cannot be enumerated")
    try:
        log_p = model.log_prob(domain)
    except NotImplementedError:
        log_p = exact_by_trajectories(model, domain)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-6)
    x = model.sample_pf(shape_of(model), generator(0, "frequencies"))[0]
    rows = (x[:, None].flatten(2) == domain[None].flatten(2)).all(2).double().mean(0)
    expected = log_p.detach().exp()
    z = (rows - expected) / (expected * (1 - expected) / COUNT).sqrt().clamp(min=1e-12)
    assert z.abs().max() < SIGMAS


def exact_by_trajectories(model, domain):
    """log p(x) from so many trajectories that each x's weights are averaged to 1e-7 or the test says so."""
    with torch.no_grad():
        log_w = log_weights(model, domain, 4096, generator(0, "exact"))
    w = log_w.exp()
    assert (w.std(1) / 64).max() < 1e-7, "no exact log-probability: give log_prob"
    return importance_weighted(log_w)


def test_backward_after_forward_comes_back(model):
    states = model.sample_pf(shape_of(model, 64), generator(0, "round trip"))
    assert states.shape == (model.timesteps + 1, 64, *model.shape)
    again = model.sample_pb(states[0], generator(1, "round trip"))
    assert again.shape == states.shape and again.dtype == states.dtype
    assert torch.equal(again[0], states[0])
    trajectory = score(model, again)
    for part in (trajectory.log_prior, trajectory.log_pf, trajectory.log_pb):
        assert part.isfinite().all()
    if model.deterministic in ("P_B", "both"):
        torch.testing.assert_close(again, states, rtol=1e-6, atol=1e-6)


def test_the_same_generator_draws_the_same(model):
    shape = shape_of(model, 8)
    first, second = (model.sample_pf(shape, generator(3, "again")) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(*(model.sample_pb(first[0], generator(4, "again")) for _ in range(2)))


def test_every_parameter_gets_a_gradient(family):
    model = family.tiny()
    x = model.sample_pf(shape_of(model, 256), generator(0, "gradient"))[0]
    log_w = log_weights(model, x, 2, generator(1, "gradient"))
    (log_w.square().mean() + log_w.mean()).backward()
    dead = [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert not dead
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_bounds_are_in_order(model):
    """ELBO ≤ importance-weighted bound, always; ≤ log p(x) on average, with equality of E w = p(x)."""
    with torch.no_grad():
        x = model.sample_pf(shape_of(model, 64), generator(0, "bounds"))[0]
        log_w = log_weights(model, x, 256, generator(1, "bounds")).double()
        low, high = elbo(log_w), importance_weighted(log_w)
        assert (low <= high + 1e-9).all()
        try:
            exact = model.log_prob(x).double()
        except NotImplementedError:
            return
    error = (log_w.exp() / exact.exp()[:, None]).std(1) / 16
    assert ((log_w - exact[:, None]).exp().mean(1) - 1 <= SIGMAS * error + 1e-6).all()
    assert (high - exact).mean() <= 1e-6 + 3 * (high - exact).std() / 8
    assert (low - exact).mean() <= 1e-6


def test_serialisation_round_trips(family):
    model, other = family.tiny(seed=0), family.tiny(seed=1)
    x = model.sample_pf(shape_of(model, 16), generator(0, "save"))[0]
    states = model.sample_pb(x, generator(1, "save"))
    before = score(model, states).log_w
    assert not torch.equal(before, score(other, states).log_w), "seeds must differ, or this shows nothing"
    other.load_state_dict(load(save({k: v.contiguous() for k, v in model.state_dict().items()})))
    assert torch.equal(before, score(other, states).log_w)


def test_single_and_double_precision_agree(family):
    double, single = family.tiny(torch.float64), family.tiny(torch.float32)
    single.load_state_dict({k: v.to(single.state_dict()[k].dtype) for k, v in double.state_dict().items()})
    states = double.sample_pf(shape_of(double, 32), generator(0, "precision"))
    narrow = states.float() if states.is_floating_point() else states
    low, high = score(single, narrow), score(double, narrow.to(states.dtype))
    assert low.log_w.dtype == torch.float32 and high.log_w.dtype == torch.float64
    torch.testing.assert_close(low.log_w.double(), high.log_w, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bias", [0.7, -0.7])
def test_a_mismatched_policy_is_found(sampled, bias):
    """Its log-probability is off by ``bias`` nats a trajectory."""
    assert sampled.deviation(sampled.log_w + bias) > SIGMAS


class WithoutJacobian:
    """A deterministic pair whose log P_F, a change of variables, is 0."""

    def __init__(self, model):
        self.timesteps = model.timesteps
        self.log_prior, self.log_pb = model.log_prior, model.log_pb

    def log_pf(self, x_prev, x_t, t):
        return torch.zeros(len(t), dtype=torch.float64)


def test_a_missing_jacobian_is_found(model):
    """Nothing integrates to 1 without it."""
    if model.deterministic != "both":
        pytest.skip("its policies have densities")
    wrong, found = WithoutJacobian(model), (sampled_forward(model), sampled_backward(model))
    assert max(each.deviation(each.scored_by(wrong)) for each in found) > SIGMAS


def test_its_checks_pass(family, name):
    checks = family.checks(family_settings())
    assert checks and all(isinstance(each, Check) for each in checks)
    failed = [f"{c.what}: {c.disagreement:.3g} > {c.tolerance:.3g} {c.unit}" for c in checks if not c.passed]
    assert not failed
    assert all(math.isfinite(c.disagreement) and c.tolerance >= 0 for c in checks)


def test_it_trains(family, name):
    """Scale smoke: the training runs, is a function of its seed, and gives scores and something to see."""
    settings = family_settings()
    fits = [family.fit(settings, 0) for _ in range(2)]
    assert all(isinstance(each, Fit) and isinstance(each.model, family) for each in fits)
    assert fits[0].scores and fits[0].scores == fits[1].scores
    assert all(math.isfinite(value) for value in fits[0].scores.values())
    assert 1 <= len(fits[0].panels) <= 4
    for panel in fits[0].panels:
        last = {"points": (2,), "curve": (2,)}.get(panel.kind)
        assert panel.values.isfinite().all() and len(panel.values)
        assert panel.values.shape[1:] == last if last else panel.values.ndim == 3
