"""Diffusion whose noising P_B has parameters: rates that are learned, between end points that are not.

Noising preserves variance, P_B(x_t | x_{t−1}) = N(a_t x_{t−1}, 1 − a_t²), and its log signal-to-noise ratios
γ_t = log ᾱ_t/(1 − ᾱ_t), ᾱ_t = Π a_s², fall from a fixed γ_1 to a fixed γ_T (the schedule of Kingma et al. 2021,
arXiv 2107.00630, on a grid). P_F(x_{t−1} | x_t) has parameters of its own throughout, its copy of the schedule among them,
so that P_B can be trained with P_F held.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LearnedSchedule", "Rates", "ReverseProcess", "log_noising", "log_prior", "noised"]


class Rates(NamedTuple):
    """Of t = 1…T, broadcastable to a data point: a_t, 1 − a_t², and 1 − ᾱ_t, each [T, …]."""

    scale: Tensor
    variance: Tensor
    noise: Tensor


class LearnedSchedule(nn.Module):
    """Log signal-to-noise ratios γ_1 > … > γ_T with fixed ends: γ_t = γ_1 − (γ_1 − γ_T) Σ_{s<t} softmax(b + φ)_s.

    b are the logarithms of the steps of ``log_snr``, so that φ = 0 gives it back.

    log_snr: [T], falling, T ≥ 3; shape: of φ at one time, broadcastable to a data point: (D,) for a rate of its own for
    each coordinate, (1, …, 1) for one rate. ValueError for a schedule that does not fall.
    """

    first: Tensor
    base: Tensor

    def __init__(self, log_snr: Tensor, shape: Sequence[int]) -> None:
        super().__init__()
        steps = log_snr[:-1] - log_snr[1:]
        if log_snr.ndim != 1 or len(log_snr) < 3 or not bool((steps > 0).all()):
            raise ValueError("a schedule is a list of at least 3 falling log signal-to-noise ratios")
        self.shape, self.total = tuple(shape), float(steps.sum())
        self.register_buffer("first", log_snr[0].clone())
        self.register_buffer("base", steps.log().view(-1, *[1] * len(self.shape)).clone())
        self.logits = nn.Parameter(log_snr.new_zeros(len(steps), *self.shape))

    def log_snr(self) -> Tensor:
        """γ [T, *shape]."""
        share = torch.softmax(self.base + self.logits, 0)
        fallen = torch.cat([torch.zeros_like(share[:1]), share.cumsum(0)])
        return self.first - self.total * fallen

    def rates(self) -> Rates:
        """``Rates`` of the present φ, with a graph.

        1 − a_t² = 1 − ᾱ_t/ᾱ_{t−1} with ᾱ = sigmoid(γ), from differences of logarithms, which keep the digits that the
        quotient of two numbers near 1 loses.
        """
        log_signal = nn.functional.logsigmoid(self.log_snr())
        before = torch.cat([torch.zeros_like(log_signal[:1]), log_signal[:-1]])
        log_square = log_signal - before
        return Rates((log_square / 2).exp(), -torch.expm1(log_square), torch.sigmoid(-self.log_snr()))


class ReverseProcess(nn.Module):
    """P_F(x_{t−1} | x_t) = N((x_t − (1 − a_t²) ε_θ(x_t, t)/√(1 − ᾱ_t))/a_t, (1 − a_t²) e^{s_t}).

    The mean of Ho et al. 2020, eq. 11, with the rates of its own ``schedule``; s [T, *shape] makes the variances learned.
    network: (x [N, ...], time int64 [N] in 0…T−1) → ε_θ [N, ...].
    """

    def __init__(
        self, network: Callable[[Tensor, Tensor], Tensor], log_snr: Tensor, shape: Sequence[int]
    ) -> None:
        super().__init__()
        self.network, self.schedule = network, LearnedSchedule(log_snr, shape)
        self.log_scale = nn.Parameter(log_snr.new_zeros(len(log_snr), *shape))

    def log_prob(self, path: Tensor) -> Tensor:
        """[T, N], nats: log P_F(x_{t−1} | x_t) of every step of path [T+1, N, ...]; T·N states in one evaluation."""
        steps, count = len(path) - 1, path.shape[1]
        time = torch.arange(steps, device=path.device).repeat_interleave(count)
        eps = self.network(path[1:].flatten(0, 1), time).view_as(path[1:])
        rates = self.schedule.rates()
        scale, variance, noise = (_rows(part) for part in rates)
        mean = (path[1:] - variance / noise.sqrt() * eps) / scale
        return _log_normal(path[:-1], mean, variance * _rows(self.log_scale).exp(), 2)


def noised(x0: Tensor, rates: Rates, noise: Tensor) -> Tensor:
    """[T+1, N, ...]: x_0, …, x_T of one joint path from each of x0 [N, ...], driven by standard normal noise [T, N, ...].

    Differentiable in the rates (the reparameterised draw).
    """
    path = [x0]
    for scale, variance, eps in zip(rates.scale, rates.variance, noise, strict=True):
        path.append(scale * path[-1] + variance.sqrt() * eps)
    return torch.stack(path)


def log_noising(path: Tensor, rates: Rates) -> Tensor:
    """[T, N], nats: log P_B(x_t | x_{t−1}) of every step of path [T+1, N, ...]."""
    return _log_normal(path[1:], _rows(rates.scale) * path[:-1], _rows(rates.variance), 2)


def log_prior(path: Tensor) -> Tensor:
    """[N], nats: log N(x_T; 0, 1)."""
    return _log_normal(path[-1], torch.zeros_like(path[-1]), torch.ones_like(path[-1]), 1)


def _rows(values: Tensor) -> Tensor:
    """[T, *shape] → [T, 1, *shape], for all points of a batch."""
    return values.unsqueeze(1)


def _log_normal(x: Tensor, mean: Tensor, variance: Tensor, leading: int) -> Tensor:
    """Log-density of independent normals, summed over all but the ``leading`` axes of x."""
    variance = variance.expand_as(x)
    value = -0.5 * ((x - mean).square() / variance + variance.log() + math.log(2 * math.pi))
    return value.flatten(leading).sum(leading)
