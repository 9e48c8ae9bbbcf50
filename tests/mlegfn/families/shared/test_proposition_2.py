"""Proposition 2 (our reading): for an HVAE, D_KL(P_B(τ)‖P_F(τ)) = −ELBO − H(data), with equal gradients in both
policies. The two sides are computed by different formulas, and each wrong variant below is told from the right one.
"""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from mlegfn.families.hvae import HVAE
from mlegfn.families.shared import proposition_2 as proposition_2
from mlegfn.families.shared.comparing import gradient, relative
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import score

# Values are a few nats and condition numbers below 100, so float64 leaves some 1e-14; wrong variants miss by > 1e-2.
EXACT, WRONG = 1e-11, 1e-2
SIGMAS = 5.0  # of fixed seeds; the worst of P_B's 150 parameters passes by chance with p > 0.999
SIZES = [(2, 2, 1, 1), (3, 2, 3, 1), (2, 2, 2, 2, 1, 1)]


def affine(sizes, seed, cls=HVAE):
    with torch.random.fork_rng([]):
        seed_layers(seed, "proposition 2", *sizes)
        model = cls(sizes, hidden=0, dtype=torch.float64)
        with torch.no_grad():
            for layer in [*model.up, *model.down]:
                layer.log_variance.normal_(0.0, 0.5)
    return model


def gaussian_data(size, seed=0):
    rng = generator(seed, "proposition 2", "data", size)
    root = torch.randn(size, size, generator=rng, dtype=torch.float64)
    mean = torch.randn(size, generator=rng, dtype=torch.float64)
    return MultivariateNormal(mean, root @ root.T + torch.eye(size, dtype=torch.float64))


class WithoutOneLayer(HVAE):
    """Forgets D_KL(P_B(x_1|x_0) ‖ P_F(x_1|x_2)), the lowest latent's part of the bound."""

    def _log_pf(self, step, x_prev, x_t):
        return super()._log_pf(step, x_prev, x_t) * (step != 2)

    def _log_pb(self, step, x_prev, x_t):
        return super()._log_pb(step, x_prev, x_t) * (step != 1)


class WithoutPath(HVAE):
    """Forgets that x_t depends on P_B: no reparameterised gradient."""

    def explain(self, x0, noise):
        return super().explain(x0, noise).detach()


def disagreements(model, data, divergence=proposition_2.trajectory_kl):
    """(values in nats; gradients in P_F, in P_B, relative)."""
    one, other = divergence(model, data) + data.entropy(), -proposition_2.expected_elbo(model, data)
    policies = [list(side.parameters()) for side in (model.down, model.up)]
    gradients = [[gradient(value, p) for value in (one, other)] for p in policies]
    return (one - other).abs().item(), *(relative(*pair) for pair in gradients)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_proposition_2_kl_trajectory_balance_is_the_negative_elbo(sizes, seed):
    assert max(disagreements(affine(sizes, seed), gaussian_data(sizes[0], seed))) < EXACT


def test_proposition_2_the_constant_is_the_entropy_of_the_data():
    """D_KL + ELBO depends on the data alone: the same for every model, another for other data."""
    data = gaussian_data(2)
    for seed in range(3):
        model = affine((2, 2, 1, 1), seed)
        both = proposition_2.trajectory_kl(model, data) + proposition_2.expected_elbo(model, data)
        assert both.item() == pytest.approx(-data.entropy().item(), abs=EXACT)


def test_proposition_2_fails_without_one_layers_kl():
    value, forward, backward = disagreements(affine(SIZES[0], 0, WithoutOneLayer), gaussian_data(2))
    assert min(value, forward, backward) > WRONG


def test_proposition_2_fails_with_the_other_direction():
    def swapped(model, data):
        return kl_divergence(*reversed(proposition_2.both_joints(model, data)))

    assert min(disagreements(affine(SIZES[0], 0), gaussian_data(2), swapped)) > WRONG


def test_proposition_2_fails_without_the_reparameterised_gradient():
    """Values and P_F's gradient do not notice; P_B's does."""
    model = affine(SIZES[0], 0, WithoutPath)
    value, forward, backward = disagreements(model, gaussian_data(2))
    assert max(value, forward) < EXACT and backward > WRONG


# As wide as the tiny model's own x, or importance weights from P_F to P_B would vary too much to say anything.
WIDE = MultivariateNormal(torch.tensor([0.5, -1.0]).double(), torch.tensor([[3.0, 1.0], [1.0, 2.0]]).double())


def test_proposition_2_with_networks():
    """By sampling: values from paths of P_F and of P_B, gradients by score function and by reparameterisation."""
    assert proposition_2.value_deviation(HVAE.tiny(), WIDE, generator(0, "value"))[0] < SIGMAS
    assert proposition_2.gradient_deviation(HVAE.tiny(), WIDE, generator(0, "gradient")) < SIGMAS


def test_proposition_2_with_networks_fails_where_it_is_wrong():
    def wrong(model, states):
        return score(WithoutOneLayer.tiny(), states)

    assert proposition_2.value_deviation(HVAE.tiny(), WIDE, generator(0, "value"), wrong)[0] > SIGMAS
    assert proposition_2.gradient_deviation(WithoutPath.tiny(), WIDE, generator(0, "gradient")) > SIGMAS


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="≥ 3 latents"):
        HVAE((4, 2, 1), hidden=0)
    with pytest.raises(ValueError, match="none larger than the data"):
        HVAE((2, 4, 2, 1), hidden=0)
