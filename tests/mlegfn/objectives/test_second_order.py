"""log p = ELBO + ½ Var to second order, whose gradients follow from it, and where that fails: exact cases in float64."""

import itertools
import math

import pytest
import torch
from helpers.exact import exact_gaussian, gaussian_log_prob, linear_process

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.objectives.bounds import elbo
from mlegfn.objectives.consistency import consistency
from mlegfn.objectives.second_order import group_loss, second_order, signed_loss

HALVED = [0.04, 0.02, 0.01]  # sizes of a misfit


def order(errors):
    """log₂ of what halving the misfit divides the error by."""
    return math.log2(abs(errors[-2]) / abs(errors[-1]))


# ---------------------------------------------------------------- what the functions are


def test_the_functions_are_their_formulas():
    log_w = torch.tensor([[0.0, 2.0, 4.0, 6.0]], dtype=torch.float64)
    assert second_order(log_w).item() == pytest.approx(3 + 20 / 3 / 2)
    assert signed_loss(log_w, -0.5).item() == pytest.approx(-second_order(log_w).item())
    assert signed_loss(log_w, 0.0).item() == -3
    pairs = [math.log((1 + math.exp(2)) / 2), math.log((math.exp(4) + math.exp(6)) / 2)]
    assert group_loss(log_w, 2).item() == pytest.approx(-sum(pairs) / 2)
    assert torch.equal(group_loss(log_w, 1), -elbo(log_w))
    with pytest.raises(ValueError, match="4 trajectories are not whole groups of 3"):
        group_loss(log_w, 3)
    with pytest.raises(ValueError, match="at least 2 trajectories"):
        signed_loss(log_w[:, :1], 0.1)


# ---------------------------------------------------------------- a Gaussian chain


class Chain:
    """A linear Gaussian P_F that misses the exact reverse of its noising by ``misfit``: everything in closed form."""

    def __init__(self, misfit, steps=6, data_variance=0.3):
        self.process = linear_process(steps)
        base = exact_gaussian(self.process, data_variance)

        def network(x, time):
            return base.network(x, time) * (1 + misfit) + 0.5 * misfit

        self.model = DenoisingModel(network, self.process, base.log_variance - misfit)
        self.steps = steps

    def terms(self, x0, noise):
        """[T + 1]: log P_F − log P_B of each step of the path that ``noise`` [T] drives, then log p(x_T)."""
        x, terms = x0.view(1, 1), []
        for step in range(1, self.steps + 1):
            t, before = torch.tensor([step]), x
            x = self.process.sqrt_alpha[step] * x + self.process.sqrt_beta[step] * noise[step - 1]
            terms.append(self.model.log_pf(before, x, t) - self.model.log_pb(before, x, t))
        return torch.cat([*terms, self.model.log_prior(x)])

    def cumulants(self, x0, weights=None):
        """(mean, variance) of Σ weights · terms: a quadratic k + b·ε + ε·K·ε has k + tr K and |b|² + 2 tr K²."""
        weights = torch.ones(self.steps + 1, dtype=torch.float64) if weights is None else weights
        zero = torch.zeros(self.steps, dtype=torch.float64)

        def total(noise):
            return (weights * self.terms(x0, noise)).sum()

        b = torch.autograd.functional.jacobian(total, zero)
        K = torch.autograd.functional.hessian(total, zero) / 2
        return (total(zero) + K.trace()).item(), (b @ b + 2 * (K @ K).trace()).item()

    def log_p(self, x0):
        """log p(x_0): the mean and variance of x_T … x_0, step by step."""
        mean, variance = 0.0, 1.0
        for step in range(self.steps, 0, -1):
            t, ends = torch.tensor([step] * 2), torch.tensor([[0.0], [1.0]], dtype=torch.float64)
            at_0, at_1 = (
                self.process.reverse_mean(ends, t, self.model.predict(ends, t).eps).flatten().tolist()
            )
            mean = at_0 + (at_1 - at_0) * mean
            variance = (at_1 - at_0) ** 2 * variance + self.model.log_variance[step].exp().item()
        return gaussian_log_prob(x0 - mean, variance).item()


X0 = torch.tensor(0.7, dtype=torch.float64)


def test_on_a_gaussian_chain_the_remainder_is_of_third_order():
    errors, without = [], []
    for misfit in HALVED:
        chain = Chain(misfit)
        mean, variance = chain.cumulants(X0)
        errors.append(chain.log_p(X0) - mean - variance / 2)
        without.append(chain.log_p(X0) - mean)
    assert order(errors) == pytest.approx(3, abs=0.15)
    assert order(without) == pytest.approx(2, abs=0.15), "the bound alone misses the second order"


def test_another_factor_than_a_half_is_told():
    errors = []
    for misfit in HALVED:
        chain = Chain(misfit)
        mean, variance = chain.cumulants(X0)
        errors.append(chain.log_p(X0) - mean - variance * 0.45)
    assert order(errors) < 2.3


def test_steps_of_independent_noise_have_the_mean_of_log_w_and_another_variance():
    """The shortcut that draws x_{t−1}, x_t of each step anew adds the steps' variances and leaves out what cancels."""
    chain = Chain(0.01)
    parts = [chain.cumulants(X0, row) for row in torch.eye(chain.steps + 1, dtype=torch.float64)]
    mean, variance = chain.cumulants(X0)
    assert sum(part for part, _ in parts) == pytest.approx(mean)
    shortcut = sum(part for _, part in parts)
    assert shortcut > 100 * variance
    right, wrong = (abs(chain.log_p(X0) - mean - v / 2) for v in (variance, shortcut))
    assert wrong > 1000 * right


# ---------------------------------------------------------------- six trajectories, listed


def table(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cumulants(p_b, log_w):
    mean = (p_b * log_w).sum(-1)
    return mean, (p_b * (log_w - mean[..., None]) ** 2).sum(-1)


def near_the_posterior(misfit):
    """(P_B [6], log w [6], log p) with P_B the posterior times e^(misfit · u), normalised."""
    joint = table(1, 6) - 2
    p_b = (joint + misfit * table(2, 6)).softmax(0)
    return p_b, joint - p_b.log(), joint.logsumexp(0)


def test_on_six_trajectories_the_remainder_is_of_third_order():
    errors = []
    for misfit in HALVED:
        p_b, log_w, log_p = near_the_posterior(misfit)
        mean, variance = cumulants(p_b, log_w)
        errors.append((log_p - mean - variance / 2).item())
    assert order(errors) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_group_of_k_descends_like_a_negative_weight(size):
    """E[IWAE-K] over all 6^K groups against λ = −(1 − 1/K)/2; a remainder of third order, of another λ second."""
    errors, others = [], []
    for misfit in HALVED:
        p_b, log_w, _ = near_the_posterior(misfit)
        groups = torch.tensor(list(itertools.product(range(6), repeat=size)))
        chance = p_b[groups].prod(1)
        loss = (chance * group_loss(log_w[groups], size)).sum()
        mean, variance = cumulants(p_b, log_w)
        errors.append((loss + mean + (1 - 1 / size) / 2 * variance).item())
        others.append((loss + mean + variance / 2).item())
    assert order(errors) == pytest.approx(4 if size == 2 else 3, abs=0.2)  # log cosh of two is even
    assert order(others) < 2.3


def pairs(p_b):
    """All pairs of trajectories [36, 2] and their chances [36]."""
    listed = torch.tensor(list(itertools.product(range(6), repeat=2)))
    return listed, p_b[listed].prod(1)


def gradients(parameters, log_w, p_b, expectation_moves=False):
    """(∇N, ∇V): N = −E[log w], all of it; V = E of the unbiased variance of two, of which the draws are held."""
    bound = torch.autograd.grad(-(p_b * log_w).sum(), parameters, retain_graph=True)[0]
    listed, chance = pairs(p_b if expectation_moves else p_b.detach())
    variance = (chance * consistency(log_w[listed])).sum()
    return bound, torch.autograd.grad(variance, parameters, retain_graph=True)[0]


def test_consistency_on_p_b_is_twice_the_gradient_of_the_bound():
    """∇_φ Var[log w] = 2 ∇_φ (−ELBO) for P_B, P_F held, at any φ: VarGrad (Richter et al. 2020, arXiv 2010.10436)."""
    joint = table(3, 6) - 2
    for seed in range(4, 8):
        phi = table(seed, 6).requires_grad_()
        log_p_b = phi.log_softmax(0)
        bound, variance = gradients(phi, joint - log_p_b, log_p_b.exp())
        torch.testing.assert_close(variance, 2 * bound, rtol=1e-12, atol=1e-12)
        assert bound.norm() > 0.05


def test_that_is_not_so_for_p_f_nor_where_the_draws_are_differentiated():
    theta, phi = table(3, 6).requires_grad_(), table(4, 6).requires_grad_()
    log_p_b = phi.log_softmax(0)
    joint = theta - torch.cat([theta, torch.zeros(1, dtype=torch.float64)]).logsumexp(0)  # x and all the rest
    bound, variance = gradients(theta, joint - log_p_b, log_p_b.exp())
    assert (variance - 2 * bound).norm() > 0.1 * bound.norm()
    cosine = torch.nn.functional.cosine_similarity(bound, variance, dim=0)
    assert cosine < 0.95, "not even the direction"
    bound, variance = gradients(phi, joint.detach() - log_p_b, log_p_b.exp(), expectation_moves=True)
    assert (variance - 2 * bound).norm() > 0.1 * bound.norm()


# ---------------------------------------------------------------- the slope at the optimum of the bound


class Family:
    """P_F(x, τ) = exp(θ·f − A) on three x with six trajectories each, and a target that it misses by ``misfit``.

    q(x, τ) = data(x) P_B(τ|x) is a member of the family times e^(misfit · g), normalised.
    """

    def __init__(self, misfit):
        self.features = table(5, 18, 4)
        self.inside = table(6, 4) * 0.5
        self.q = (self.features @ self.inside + misfit * table(7, 18)).softmax(0)

    def quantities(self, theta):
        """(NLL, N = −bound, V = mean of Var[log w]) under the data, exact."""
        log_joint = (self.features @ theta).log_softmax(0).view(3, 6)
        q = self.q.view(3, 6)
        data = q.sum(1)
        p_b = q / data[:, None]
        mean, variance = cumulants(p_b, log_joint - p_b.log())
        return -(data * log_joint.logsumexp(1)).sum(), -(data * mean).sum(), (data * variance).sum()

    def gradients(self, theta):
        theta = theta.clone().requires_grad_()
        return [torch.autograd.grad(value, theta, retain_graph=True)[0] for value in self.quantities(theta)]

    def optimum(self):
        """Where the bound is best, by Newton's method: N is convex in θ."""
        theta = self.inside.clone()
        for _ in range(30):
            step = torch.autograd.functional.hessian(lambda at: self.quantities(at)[1], theta)
            theta = theta - torch.linalg.solve(step, self.gradients(theta)[1])
        assert self.gradients(theta)[1].norm() < 1e-12
        return theta

    def slope(self, theta):
        """dNLL/dV along −∇V."""
        nll, _, variance = self.gradients(theta)
        return (nll @ variance / (variance @ variance)).item()


def test_at_the_optimum_of_the_bound_nll_moves_by_minus_half_of_the_variance():
    errors = []
    for misfit in HALVED:
        family = Family(misfit)
        errors.append(family.slope(family.optimum()) + 0.5)
    assert abs(errors[-1]) < 0.02 and order(errors) == pytest.approx(1, abs=0.2)


def test_a_step_along_a_signed_loss_is_odd_in_the_weight_and_the_bound_does_not_see_it():
    family = Family(0.02)
    start = family.optimum()
    direction = family.gradients(start)[2]
    step = 1e-4 * direction / direction.norm()
    origin = torch.stack(family.quantities(start))
    up, down = (torch.stack(family.quantities(start - sign * step)) - origin for sign in (1, -1))
    assert up[0] > 0 > down[0] and up[2] < 0 < down[2], "consistency raises NLL, its opposite lowers it"
    assert abs(up[0] + down[0]) < 0.1 * abs(up[0] - down[0])
    assert abs(up[1]) < 0.1 * abs(up[0]) and abs(down[1]) < 0.1 * abs(down[0])


def test_away_from_the_optimum_the_slope_is_another_and_consistency_can_help():
    """−log p ≈ N − V/2, so the slope along −∇V is ∇N·∇V/‖∇V‖² − ½: positive where ∇N·∇V > ½ ‖∇V‖²."""
    family = Family(0.01)
    optimum = family.optimum()
    for away in (0.02, -0.02):
        theta = optimum + away * table(8, 4)
        _, bound, variance = family.gradients(theta)
        predicted = (bound @ variance / (variance @ variance)).item() - 0.5
        assert abs(family.slope(theta) + 0.5) > 0.1
        assert family.slope(theta) == pytest.approx(predicted, abs=0.05)
    step = 1e-4 * variance
    helps = predicted > 0
    assert (family.quantities(theta - step)[0] < family.quantities(theta)[0]) == helps and helps
