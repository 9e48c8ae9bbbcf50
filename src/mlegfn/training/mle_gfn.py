"""MLE-GFN: maximum likelihood with trajectory-balance consistency (arXiv 2209.02606, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch

from mlegfn.objectives.consistency import consistency, huber_consistency
from mlegfn.randomness import onto
from mlegfn.training import distributed

if TYPE_CHECKING:
    from torch import Tensor

    from mlegfn.diffusion.model import DenoisingModel, Prediction
    from mlegfn.training.chains import Chain

__all__ = [
    "AnchorBatch",
    "ConsistencySettings",
    "Evaluations",
    "anchor_loss",
    "chain_backward",
    "mle_gfn_backward",
]


class ConsistencySettings(Protocol):
    """The consistency term as a loss, and how its gradient is computed."""

    @property
    def trajectories(self) -> int:
        """M of each image."""

    @property
    def gradient(self) -> str:
        """``exact`` or ``subsampled``."""

    @property
    def gradient_steps(self) -> int:
        """K of ``subsampled``."""

    @property
    def chunk(self) -> int:
        """States evaluated at once."""

    @property
    def loss(self) -> str:
        """``square`` or ``huber``."""

    @property
    def huber_delta(self) -> float: ...

    @property
    def per_dimension(self) -> bool:
        """Whether log w is divided by the data's dimension first."""


@dataclass
class AnchorBatch:
    """Independent states for the likelihood term: x_t [N, ...] at times t [N] of images x0 [N, ...].

    ``count``: how many all ranks have together; N if it is not given.
    """

    x0: Tensor
    x_t: Tensor
    t: Tensor
    count: int = cast("int", None)  # until __post_init__

    def __post_init__(self) -> None:
        self.count = len(self.t) if self.count is None else self.count


@dataclass
class Evaluations:
    """Network evaluations of this rank so far, in states: ``forward`` counts all, ``backward`` those with a
    gradient."""

    forward: int = 0
    backward: int = 0

    def add(self, count: int, backward: bool) -> None:
        self.forward += count
        self.backward += count if backward else 0

    def of_all_ranks(self) -> Evaluations:
        """Their sum over ranks; every rank has to ask."""
        counts = distributed.gather((self.forward, self.backward))
        return Evaluations(*(sum(column) for column in zip(*counts, strict=True)))


def anchor_loss(
    model: DenoisingModel, x0: Tensor, x_t: Tensor, t: Tensor, prediction: Prediction, kind: str
) -> Tensor:
    """[N]: the likelihood term of each state. ``simple``: ‖ε − ε_θ‖²/d (Ho et al. 2020, eq. 14);
    ``vlb``: T·L_{t−1}/d in nats/dim, whose mean over uniform t is the bound itself. With learned
    variances ``simple`` is L_hybrid (Nichol & Dhariwal 2021): + 0.001 · vlb in bits/dim, the mean detached."""
    dims = x0.shape[1:].numel()
    if kind not in ("simple", "vlb"):
        raise ValueError(f"no likelihood term {kind!r}; there are simple and vlb")
    if kind == "vlb":
        return model.bound_terms(x0, x_t, t, prediction) * (model.timesteps / dims)
    error = (model.process.noise_of(x0, x_t, t) - prediction.eps).pow(2).flatten(1).mean(1)
    if model.log_variance is None:
        bound = model.bound_terms(x0, x_t, t, prediction, detach_mean=True)
        error = error + 0.001 * bound * (model.timesteps / dims / 0.6931471805599453)
    return error


def mle_gfn_backward(
    model: DenoisingModel,
    anchor: AnchorBatch,
    chain: Chain | None,
    settings: ConsistencySettings,
    weight: float,
    kind: str,
    evaluations: Evaluations,
    generator: torch.Generator | None,
    term: str = "consistency",
) -> dict[str, Tensor | None]:
    """One gradient of Algorithm 1, accumulated in the network's parameters:

        loss = mean over the independent states of the likelihood term  +  λ · mean_x Var_τ[log w(τ)].

    ``anchor`` are independent states, one an image; they alone carry the likelihood term, of which a chain's states
    would all share one image. ``chain``: M joint trajectories of each of B images, evaluated where λ = ``weight`` is not
    zero. ``term``: ``consistency``, or ``bound`` for − mean_τ[log w(τ)] on the same chain in its place, which only
    reweights the likelihood (:func:`chain_backward`).

    Of several ranks, each evaluates its share of the chain's rows and of the anchor's states, and the sum of the ranks'
    gradients is the gradient.

    Returns a dict of 0-d tensors: loss, likelihood term, the chain's term under its name (nats² or nats; 0 with λ = 0),
    and log_w, the mean log w (nats), None with λ = 0 or where it was not computed.
    """
    value, mean_log_w = torch.zeros((), dtype=torch.float64, device=anchor.t.device), None
    if chain is not None and weight != 0:
        value, mean_log_w = chain_backward(chain, settings, weight, evaluations, generator, term)
    likelihood = torch.zeros((), dtype=torch.float64, device=anchor.t.device)
    for start in range(0, len(anchor.t), settings.chunk):
        part = slice(start, start + settings.chunk)
        x0, x_t, t = anchor.x0[part], anchor.x_t[part], anchor.t[part]
        loss = anchor_loss(model, x0, x_t, t, model.predict(x_t, t), kind).sum() / anchor.count
        loss.backward()
        evaluations.add(len(t), backward=True)
        likelihood = likelihood + loss.detach().double()
    likelihood = distributed.total(likelihood)
    return {"loss": likelihood + weight * value, "likelihood": likelihood, term: value, "log_w": mean_log_w}


def chain_backward(
    chain: Chain,
    settings: ConsistencySettings,
    weight: float,
    evaluations: Evaluations,
    generator: torch.Generator | None,
    term: str = "consistency",
) -> tuple[Tensor, Tensor | None]:
    """Accumulate the gradient of ``weight`` · term over a chain; returns (the term, the mean log w or None).

    ``consistency``: mean_x Var_τ[log w(τ)] (arXiv 2209.02606, eq. 33). Because log w is a sum over steps,
    ∇ Var[log w] = Σ_t g(τ) ∇ log P_F(x_{t−1}|x_t) with g = ∂Var/∂log w(τ). *Pass 1*, without gradients, gives log w
    and g; *pass 2* goes through the steps in chunks, so memory does not grow with T: through all of them (``exact``) or
    through K of them weighted S/K (``subsampled``: unbiased, since g is already exact). A chain that fits into one chunk
    needs one pass only.

    ``bound``: − mean_τ[log w(τ)], whose g is the same number for every τ: one pass.

    Raises ValueError for an unknown term, and where there are more ranks than rows.
    """
    if term not in ("consistency", "bound"):
        raise ValueError(f"no term {term!r} of a chain; there are consistency and bound")
    M, rows, width = settings.trajectories, chain.count, chain.states.shape[1]
    scale = x0_dims(chain.x0) if settings.per_dimension else 1
    one_pass = settings.gradient == "exact" and rows <= settings.chunk
    fixed = chain.fixed_part(settings.chunk)
    picked = _picked_rows(chain, settings, generator)
    if len(picked) < distributed.size():
        raise ValueError(f"{distributed.size()} ranks cannot share {len(picked)} rows of the chain")

    value = sum_log_pf = torch.zeros((), dtype=torch.float64, device=chain.states.device)
    coefficients, mean_log_w = torch.full_like(fixed, -1 / width), None
    if term == "consistency" and not one_pass:
        # Dropout must strike the same units in both passes, or g would belong to another function.
        with torch.random.fork_rng([chain.states.device] if chain.states.is_cuda else []):
            log_pf = _log_pf_without_gradient(chain, settings.chunk, evaluations)
        log_w = chain.sum_over_steps(log_pf) + fixed
        value, coefficients, mean_log_w = _coefficients(log_w, M, scale, settings)
    share = rows / len(picked)

    for part in picked[distributed.share(len(picked))].split(settings.chunk):
        _, x_prev, x_t, t = chain.rows(part)
        log_pf = chain.model.log_pf(x_prev, x_t, t)
        evaluations.add(len(t), backward=True)
        if term == "consistency" and one_pass:
            log_w = chain.sum_over_steps(distributed.assemble(log_pf, rows)) + fixed
            value, coefficients, mean_log_w = _coefficients(log_w, M, scale, settings)
        column = onto(t.device, part) % width
        (weight * share * (coefficients[column].to(log_pf.dtype) * log_pf).sum()).backward()
        sum_log_pf = sum_log_pf + log_pf.detach().double().sum()
    if term == "bound":
        mean_log_w = (share * distributed.total(sum_log_pf) + fixed.sum()) / width
        value = -mean_log_w
    return value, mean_log_w


def x0_dims(x0: Tensor) -> int:
    """Dimension of one data point."""
    return x0[0].numel()


def _picked_rows(chain: Chain, settings: ConsistencySettings, generator: torch.Generator | None) -> Tensor:
    """Rows that get a gradient: all, or K of each trajectory's S steps (the same K for the M of an image)."""
    steps, width = chain.states.shape[0] - 1, chain.states.shape[1]
    if settings.gradient == "exact":
        return torch.arange(steps * width)
    kept = min(settings.gradient_steps, steps)
    order = torch.rand(width // settings.trajectories, steps, generator=generator).argsort(1)[:, :kept]
    order = order.repeat_interleave(settings.trajectories, 0)
    return (order * width + torch.arange(width)[:, None]).flatten()


@torch.no_grad()
def _log_pf_without_gradient(chain: Chain, chunk: int, evaluations: Evaluations) -> Tensor:
    """[S·B·M]: log P_F of every row, each rank's share evaluated by itself."""
    pieces = [chain.states.new_zeros(0)]
    mine = distributed.share(chain.count)
    for start in range(mine.start, mine.stop, chunk):
        _, x_prev, x_t, t = chain.rows(slice(start, min(start + chunk, mine.stop)))
        pieces.append(chain.model.log_pf(x_prev, x_t, t))
        evaluations.add(len(t), backward=False)
    return distributed.assemble(torch.cat(pieces), chain.count)


def _coefficients(
    log_w: Tensor, M: int, scale: int, settings: ConsistencySettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean consistency over images, its derivative in each trajectory's log w [B·M], and the mean log w."""
    log_w = log_w.detach().double().requires_grad_()
    table = log_w.view(-1, M) / scale
    spread = (
        consistency(table) if settings.loss == "square" else huber_consistency(table, settings.huber_delta)
    )
    (slope,) = torch.autograd.grad(spread.mean(), log_w)
    return spread.mean().detach(), slope, log_w.mean().detach()
