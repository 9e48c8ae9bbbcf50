"""log p(x) of a diffusion model by importance weighting over joint noising trajectories."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import generator

if TYPE_CHECKING:
    from mlegfn.diffusion.model import DenoisingModel

__all__ = ["LogLikelihood", "log_likelihood", "log_weights", "precise_log_weights"]


@dataclass
class LogLikelihood:
    """What log w [N, M] says of log p(x_1) … log p(x_N); means over the N points, in nats.

    nll:            −mean log p̂, log p̂(x) = log (1/M) Σ_m w(τ_m), an upper bound in expectation
    standard_error: of ``nll``, from the finite number of trajectories alone (the points are held fixed)
    bias:           by how much ``nll`` is expected to be too high, because a log is concave
    points_error:   of ``nll`` as an estimate for the population, from the finite number of points
    half:           ``nll`` with half of the trajectories: what doubling them changed
    elbo:           −mean log w, the bound with one trajectory
    variance:       mean unbiased Var_τ[log w], nats²: the consistency that TBC trains
    """

    nll: float
    standard_error: float
    bias: float
    points_error: float
    half: float
    elbo: float
    variance: float
    trajectories: int


def log_likelihood(log_w: torch.Tensor) -> LogLikelihood:
    """``LogLikelihood`` of log-weights [N, M], M even, of N points.

    With v = Var[w]/(M E[w]²) of a point, the delta method gives log p̂ a variance of v and a bias of −v/2;
    the points' trajectories are independent, so the standard error of the mean is √(Σ v)/N.
    Raises ValueError for fewer than two points, an odd M, or values that are not finite.
    """
    N, M = log_w.shape
    if N < 2 or M % 2:
        raise ValueError(f"a log-likelihood needs 2 points and an even number of trajectories, got {N}, {M}")
    log_w = log_w.double()
    log_p = importance_weighted(log_w)
    relative = (log_w - log_p[:, None]).exp().var(1) / M
    return LogLikelihood(
        nll=-log_p.mean().item(),
        standard_error=relative.sum().sqrt().item() / N,
        bias=relative.mean().item() / 2,
        points_error=log_p.std().item() / math.sqrt(N),
        half=-importance_weighted(log_w[:, : M // 2]).mean().item(),
        elbo=-elbo(log_w).mean().item(),
        variance=consistency(log_w).mean().item(),
        trajectories=M,
    )


@torch.no_grad()
def log_weights(
    model: "DenoisingModel",
    x: torch.Tensor,
    rounds: Iterable[int],
    key: tuple[int | str, ...],
    batch: int = 4096,
) -> torch.Tensor:
    """[N, len(rounds)] float64: log w(τ) of one joint noising trajectory of each x [N, ...] a round.

    log w(τ) = log p(x_T) + Σ_t [log P_F(x_{t−1}|x_t) − log P_B(x_t|x_{t−1})], summed along the path. The
    noise of a round is a function of (key, round) alone: every model sees the same.
    """
    columns, together = [], max(1, batch // len(x))
    rounds = list(rounds)
    for start in range(0, len(rounds), together):
        group = rounds[start : start + together]
        noise = [_noise(model, x, generator(*key, r)) for r in group]
        log_w = _one_path(model, x.repeat(len(group), *[1] * (x.ndim - 1)), torch.cat(noise, 1))
        columns.append(log_w.view(len(group), len(x)).T)
    return torch.cat(columns, 1)


def precise_log_weights(
    draw: Mapping[str, Callable[[range], torch.Tensor]], start: int, cap: int, tolerance: float
) -> dict[str, torch.Tensor]:
    """{name: log w [N, M]}, one M for all names; ``draw``: {name: f}, f(rounds) → [N, len(rounds)].

    M doubles from ``start`` until, for every name, the standard error of the mean −log p̂ *and* its
    expected bias (``log_likelihood``) are below ``tolerance`` nats, or M would pass ``cap``. One M, so that
    no model is given tighter bounds than another.
    """
    if not 2 <= start <= cap or start % 2:
        raise ValueError(f"start must be even and between 2 and cap = {cap}, got {start}")
    tables, count = {name: f(range(start)) for name, f in draw.items()}, start
    while 2 * count <= cap and not all(precise(log_w, tolerance) for log_w in tables.values()):
        rounds = range(count, 2 * count)
        tables = {name: torch.cat([tables[name], f(rounds)], 1) for name, f in draw.items()}
        count *= 2
    return tables


def precise(log_w: torch.Tensor, tolerance: float) -> bool:
    """Whether M trajectories suffice, as ``precise_log_weights`` means it."""
    measured = log_likelihood(log_w)
    return measured.standard_error < tolerance and measured.bias < tolerance


def _noise(model: "DenoisingModel", x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    return torch.randn(model.timesteps, *x.shape, generator=draw, dtype=x.dtype)


def _one_path(model: "DenoisingModel", x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """[N] float64: log w of the joint path that ``noise`` [T, N, ...] drives from x [N, ...]."""
    log_w: torch.Tensor | float
    process, log_w = model.process, 0.0
    for step in range(1, model.timesteps + 1):
        x_prev, t = x, torch.full((len(x),), step)
        x = process.table("sqrt_alpha", t, x) * x_prev + process.table("sqrt_beta", t, x) * noise[step - 1]
        # Each is some nats; in float32 their sum over T steps would lose digits that the variance needs.
        log_w = log_w + model.log_pf(x_prev, x, t).double() - model.log_pb(x_prev, x, t).double()
    return log_w + model.log_prior(x).double()
