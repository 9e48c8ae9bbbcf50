"""examples/gflownet_em.py: its exact numbers are right, its E-step reaches exact EM, and a wrong one does not."""

import math
import sys

import pytest
import torch
from helpers.repository import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples"))

import gflownet_em as em

from mlegfn.data import planar
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import score

COUNT = 40_000


@pytest.fixture(scope="module")
def untrained():
    """A model, a GFlowNet with random policies, and one x."""
    with torch.random.fork_rng([]):
        seed_layers(0, "test-em")
        return em.FactorAnalysis(), em.GFlowNet(), planar.sample("moons", 1, generator(0, "test-em")).float()


@torch.no_grad()
def test_the_sum_over_orders_is_what_is_sampled(untrained):
    """log q(z|x) through all 3^K states, against frequencies of trajectories' ends: 5 standard errors, fixed seed."""
    model, network, x = untrained
    q = network.log_q(model, x).exp()[0]
    assert q.sum().item() == pytest.approx(1, abs=1e-5)
    z = em.Given(network, x.expand(COUNT, -1)).sample_pf((COUNT, em.BITS), generator(1, "test-em"))[0]
    found = torch.bincount((z * em.PLACE).sum(1), minlength=len(em.Z)) / COUNT
    assert ((found - q).abs() / (q * (1 - q) / COUNT).sqrt()).max() < 5
    assert (q - 1 / len(em.Z)).abs().max() > 1e-3, "uniform: the orders of bits would not be told apart"


@torch.no_grad()
def test_trajectories_of_both_policies_are_scored_as_they_are_drawn(untrained):
    """E_{P_B(τ|z)}[P_F(τ)/P_B(τ|z)] = q(z), for every z: exact sums on one side, random orders on the other."""
    model, network, x = untrained
    pair = em.Given(network, x.expand(COUNT, -1))
    z = em.Z.long()[torch.arange(COUNT) % len(em.Z)]
    w = score(pair, pair.sample_pb(z, generator(2, "test-em"))).log_w.exp().view(-1, len(em.Z))
    error = w.std(0) / math.sqrt(len(w))
    assert ((w.mean(0) - network.log_q(model, x).exp()[0]).abs() / error).max() < 5


def test_mean_field_is_a_stationary_point_of_the_bound():
    """Coordinate ascent, run long enough, ends where the bound's gradient in every logit is 0."""
    with torch.random.fork_rng([]):
        seed_layers(0, "test-em")
        model = em.FactorAnalysis()
    x = planar.sample("moons", 32, generator(0, "test-em")).float()
    with torch.no_grad():
        q = em.mean_field(model, x, sweeps=200).exp()
    logit = torch.logit(q @ em.Z, eps=1e-6).requires_grad_()
    log_q = em.bernoulli(logit)
    (log_q.exp() * (log_q - model.log_joint(x).detach())).sum().backward()
    assert logit.grad.abs().max() < 1e-3  # float32: log joints of some ten nats, weighted by probabilities


def test_gflownet_em_reaches_exact_em_and_the_prior_as_posterior_does_not():
    """Nats a test point after a short run from equal parameters. 0.05: what three seeds of the full run are asked
    for; exact EM's own seeds differ by 0.02. A wrong E-step misses it ten times."""
    last = {
        arm: em.fit(arm, 2, 250, every=250)["test_log_likelihood"] for arm in ("exact", "gflownet", "prior")
    }
    assert last["exact"][0] == last["gflownet"][0] == last["prior"][0], "they start from equal parameters"
    assert last["exact"][-1] - last["gflownet"][-1] < 0.05
    assert last["exact"][-1] - last["prior"][-1] > 0.5
