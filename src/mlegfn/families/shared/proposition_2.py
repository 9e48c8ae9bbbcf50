"""D_KL(P_B(τ)‖P_F(τ)) and the negative ELBO of an HVAE, each by a formula of its own, for values and gradients.

P_B(τ) = p_data(x_0) Π P_B(x_t|x_{t−1}) and P_F(τ) = N(x_T; 0, I) Π P_F(x_{t−1}|x_t), ``data`` a MultivariateNormal.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch.distributions import MultivariateNormal, kl_divergence

from mlegfn.families.shared.comparing import gradient
from mlegfn.objectives.control_variates import others
from mlegfn.trajectory import score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from mlegfn.families.hvae import HVAE, Conditional
    from mlegfn.trajectory import Trajectory

__all__ = ["expected_elbo", "gradient_deviation", "trajectory_kl", "value_deviation"]


def chain(start: MultivariateNormal, layers: Iterable[Conditional]) -> tuple[Tensor, Tensor]:
    """The joint Gaussian of a chain of affine ``Conditional``s from ``start``, in the chain's order."""
    mean, covariance = start.mean, start.covariance_matrix
    size = len(mean)
    for layer in layers:
        a, b = layer.affine.weight, layer.affine.bias
        cross = covariance[:, -size:] @ a.T
        own = a @ cross[-size:] + layer.log_variance.exp().diag()
        mean = torch.cat([mean, a @ mean[-size:] + b])
        covariance = torch.cat([torch.cat([covariance, cross], 1), torch.cat([cross.T, own], 1)])
        size = len(b)
    return mean, covariance


def both_joints(model: HVAE, data: MultivariateNormal) -> tuple[MultivariateNormal, MultivariateNormal]:
    """(P_B(τ), P_F(τ)) of an affine model, as Gaussians of (x_0, …, x_T) at once."""
    eye = torch.eye(model.sizes[-1], dtype=data.mean.dtype)
    prior = MultivariateNormal(torch.zeros_like(eye[0]), eye)
    mean, covariance = chain(prior, reversed(model.down))
    blocks = torch.arange(len(mean)).split(model.sizes[::-1])  # P_F's chain goes x_T … x_0
    order = torch.cat(blocks[::-1])
    forward = MultivariateNormal(mean[order], covariance[order][:, order])
    return MultivariateNormal(*chain(data, model.up)), forward


def trajectory_kl(model: HVAE, data: MultivariateNormal) -> Tensor:
    """D_KL(P_B(τ) ‖ P_F(τ)), nats, of an affine model: that of two Gaussians, by torch.distributions."""
    return kl_divergence(*both_joints(model, data))


def expected_elbo(model: HVAE, data: MultivariateNormal) -> Tensor:
    """E_{x ~ data} ELBO(x), nats, of an affine model: ``explain`` and ``score``, as in training.

    Exact: log w is a quadratic in the n standard normals behind x_0 … x_T, and the mean over the 2n points ±√n e_i
    has all moments of theirs up to the third.
    """
    n = sum(model.sizes)
    eye = math.sqrt(n) * torch.eye(n, dtype=data.mean.dtype)
    first, *noise = torch.cat([eye, -eye]).split(model.sizes, 1)
    x0 = data.mean + first @ data.scale_tril.T
    return score(model, model.explain(x0, torch.stack([model._pad(e) for e in noise]))).log_w.mean()


def value_deviation(
    model: HVAE,
    data: MultivariateNormal,
    rng: torch.Generator,
    bound: Callable[[HVAE, Tensor], Trajectory] = score,
    count: int = 65536,
) -> tuple[float, float]:
    """(How many standard errors apart, the standard error in nats) are D_KL(P_B(τ)‖P_F(τ)) from paths of *P_F*, E_{P_F}[r log r − r + 1] with
    r = p_data(x_0) P_B(τ|x_0) / P_F(τ), and −ELBO − H(data) from paths of P_B, scored by ``bound``."""
    with torch.no_grad():
        forward = score(model, model.sample_pf((count, *model.shape), rng))
        log_r = data.log_prob(forward.states[0]) - forward.log_w
        x0 = draw(data, count, rng)
        backward = -bound(model, model.sample_pb(x0, rng)).log_w - data.entropy()
    divergence = log_r.exp() * log_r - log_r.exp() + 1
    error = math.sqrt((divergence.var() + backward.var()) / count)
    return (divergence.mean() - backward.mean()).abs().item() / error, error


def gradient_deviation(
    model: HVAE,
    data: MultivariateNormal,
    rng: torch.Generator,
    batches: int = 64,
    count: int = 512,
    siblings: int = 4,
) -> float:
    """How many standard errors apart are, in the worst of P_B's parameters and with common noise, the gradients of

        KL-TB: (−log w(τ) − baseline) · ∇ log P_B(τ|x), states held fixed (the score function),
        −ELBO: −log P_F(τ) − Σ_t H(P_B(x_t|x_{t−1})), through the states (reparameterised).

    The baseline is the mean over the other ``siblings`` trajectories of the same x (Kool et al. 2019).
    """
    gaps: list[Tensor] | Tensor
    parameters, gaps = list(model.up.parameters()), []
    for _ in range(batches):
        states = model.sample_pb(draw(data, count, rng).repeat_interleave(siblings, 0), rng)
        fixed = score(model, states.detach())
        cost = -fixed.log_w.detach().view(count, siblings)
        advantage = (cost - others(cost, 1)).flatten()
        balance = gradient((advantage * fixed.log_pb.sum(0)).mean(), parameters)
        path = score(model, states)
        bound = path.log_prior + path.log_pf.sum(0) + entropies(model, states)
        gaps.append(balance - gradient(-bound.mean(), parameters))
    gaps = torch.stack(gaps)
    return (gaps.mean(0).abs() / gaps.std(0) * math.sqrt(batches)).max().item()


def draw(data: MultivariateNormal, count: int, rng: torch.Generator) -> Tensor:
    """[count, D] of a MultivariateNormal, from a generator of our own."""
    noise = torch.randn(count, len(data.mean), generator=rng, dtype=data.mean.dtype)
    return data.mean + noise @ data.scale_tril.T


def entropies(model: HVAE, states: Tensor) -> Tensor:
    """[N]: Σ_t H(P_B(x_t | x_{t−1})), nats."""
    spread = [layer(model._cut(x, t))[1] for t, (layer, x) in enumerate(zip(model.up, states))]
    return cast(
        "Tensor", sum((log_variance + math.log(2 * math.pi * math.e)).sum(1) / 2 for log_variance in spread)
    )
