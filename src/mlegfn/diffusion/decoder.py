"""The discretised Gaussian decoder: log of the mass that N(μ, σ²) gives to a pixel's bin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from torch import Tensor

    class Context(Protocol):
        """What autograd keeps of a forward pass for its backward pass."""

        saved_tensors: tuple[Tensor, ...]

        def save_for_backward(self, *tensors: Tensor) -> None: ...


__all__ = ["discretised_log_prob"]


def discretised_log_prob(
    x: Tensor, mean: Tensor, log_variance: Tensor, levels: int, cdf: str = "exact"
) -> Tensor:
    """[N, ...] → [N], nats: Σ_dims log ∫_bin N(u; mean, σ²) du (Ho et al. 2020, eq. 13).

    The ``levels`` grey values lie evenly on [−1, 1]; a bin reaches half-way to its neighbours, and the
    two outermost are open to ±∞, so the masses sum to one. ``cdf``: ``exact`` uses the normal
    CDF in log space; ``tanh`` is DDPM's approximation with its floor of 1e-12.
    """
    if levels < 2:
        raise ValueError(f"a discrete pixel has at least 2 levels, got {levels}")
    if x.shape != mean.shape:
        raise ValueError(f"x has shape {tuple(x.shape)} and its mean {tuple(mean.shape)}")
    half = 1 / (levels - 1)
    inverse_std = torch.exp(-0.5 * log_variance)
    lower = (x - half - mean) * inverse_std
    upper = (x + half - mean) * inverse_std
    first, last = x < -1 + half, x > 1 - half
    if cdf == "exact":
        terms = _log_ndtr_difference(lower, upper)
        terms = torch.where(first, log_ndtr(upper), terms)
        terms = torch.where(last, log_ndtr(-lower), terms)
    elif cdf == "tanh":
        low, high = _tanh_cdf(lower), _tanh_cdf(upper)
        mass = torch.where(first, high, torch.where(last, 1 - low, high - low))
        terms = mass.clamp(min=1e-12).log()
    else:
        raise ValueError(f"no decoder {cdf!r}; there are exact and tanh")
    return terms.flatten(1).sum(1)


class _LogNdtr(torch.autograd.Function):
    """log Φ(z), with a derivative that is right far out in the tail.

    torch's own is exp(−z²/2 − log Φ(z)) up to a factor: for z ≪ 0 two large numbers that cancel, in float32 to
    nonsense below −10³ and to infinity below −10⁴. φ(z)/Φ(z) = √(2/π) / erfcx(−z/√2) has nothing to cancel.
    """

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        # torch.special says Any of what it returns.
        return torch.special.log_ndtr(z)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return gradient * (2 / torch.pi) ** 0.5 / torch.special.erfcx(-z * 0.5**0.5)  # type: ignore[no-any-return]


log_ndtr: Callable[[Tensor], Tensor] = _LogNdtr.apply


def _log_ndtr_difference(lower: Tensor, upper: Tensor) -> Tensor:
    """log(Φ(upper) − Φ(lower)) without cancellation: bins right of the mean are mirrored to its left."""
    mirrored = lower + upper > 0
    low, high = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
    log_high = log_ndtr(high)
    return log_high + torch.log(-torch.expm1(log_ndtr(low) - log_high))


def _tanh_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
