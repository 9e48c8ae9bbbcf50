"""Trajectories of either policy of a model family, and the averages that say whether its densities are theirs."""

import math

import torch

from mlegfn.randomness import generator
from mlegfn.trajectory import score

COUNT = 40_000
SIGMAS = 5.0  # of a fixed seed: a property that holds passes for ever, one that does not fails for ever
# Standard deviations of φ where x is continuous: narrower than p where φ is divided by it, wider where p is by φ.
NARROW, WIDE = 0.7, 2.0


def shape_of(model, count=COUNT):
    return (count, *model.shape)


def spread(model, count, rng):
    """``count`` draws x of φ, and log φ(x): uniform over the domain, or a wide Gaussian."""
    domain = model.domain()
    if domain is not None:
        rows = torch.randint(len(domain), (count,), generator=rng)
        return domain[rows], torch.full((count,), -math.log(len(domain)), dtype=torch.float64)
    x = WIDE * torch.randn(shape_of(model, count), generator=rng, dtype=torch.float64)
    return x, torch.distributions.Normal(0.0, WIDE).log_prob(x).flatten(1).sum(1)


def log_spread(model, x):
    """log φ(x): uniform over the domain, or a narrow Gaussian."""
    domain = model.domain()
    if domain is not None:
        return torch.full((len(x),), -math.log(len(domain)), dtype=torch.float64)
    return torch.distributions.Normal(0.0, NARROW).log_prob(x.double()).flatten(1).sum(1)


def deviation(ratios):
    """How many standard errors the mean of ``ratios`` is from 1."""
    error = ratios.std() / math.sqrt(len(ratios))
    assert error < 0.05, f"the weights vary too much for this test to say anything: ± {error:.3f}"
    return (ratios.mean() - 1).abs().item() / max(error.item(), 1e-9)


class Sampled:
    """Trajectories of one of a model's policies, and log φ of their x; what ``ratio`` of log φ and log w is 1 on
    average."""

    def __init__(self, model, states, log_phi, ratio):
        self.states, self.log_phi, self.ratio = states, log_phi, ratio
        self.log_w = self.scored_by(model)

    def scored_by(self, pair):
        with torch.no_grad():
            return score(pair, self.states).log_w

    def deviation(self, log_w):
        return deviation(self.ratio(self.log_phi, log_w).exp())


def sampled_forward(model):
    with torch.no_grad():
        states = model.sample_pf(shape_of(model), generator(0, "forward"))
    return Sampled(model, states, log_spread(model, states[0]), lambda log_phi, log_w: log_phi - log_w)


def sampled_backward(model):
    with torch.no_grad():
        x, log_phi = spread(model, COUNT, generator(0, "spread"))
        states = model.sample_pb(x, generator(0, "backward"))
    return Sampled(model, states, log_phi, lambda log_phi, log_w: log_w - log_phi)
