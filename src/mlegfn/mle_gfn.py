"""MLE-GFN's loss on one's own network, in one call (arXiv 2209.02606, Algorithm 1).

    from mlegfn.mle_gfn import loss

    value = loss(model, x0, weight=1e-3, generator=torch.Generator().manual_seed(step))
    value.total.backward()

``training.mle_gfn`` has the same gradient for long trainings: over several GPUs, from K of T steps, with evaluations
counted. Here it is a differentiable scalar, to be added to, scaled and differentiated as any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mlegfn.diffusion.likelihood import check_images
from mlegfn.diffusion.precision import check_precision
from mlegfn.objectives.consistency import consistency, huber_consistency
from mlegfn.randomness import onto
from mlegfn.training.chains import sample_chain
from mlegfn.training.mle_gfn import anchor_loss, x0_dims

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlegfn.diffusion.model import DenoisingModel

__all__ = ["Loss", "LossSettings", "loss"]


@dataclass(frozen=True)
class LossSettings:
    """What ``loss`` is made of. Each default is what Algorithm 1 says, or the cheapest that is still that.

    :param likelihood: ``simple``, ‖ε − ε_θ‖²/d (Ho et al. 2020, eq. 14), with learned variances L_hybrid (Nichol &
        Dhariwal 2021), or ``vlb``, the bound itself, nats a dimension
    :param trajectories: M ≥ 2, of each image of the consistency term
    :param images: how many images of a batch, the first ones, have trajectories (None means all). A chain costs T·M
        evaluations of the network an image, the likelihood term one
    :param chain: ``full``, from x_0 to x_T, or ``subtrajectory``, bridges of ``chain_steps`` steps between the same two
        states, so that a large T costs no more than a small one
    :param chain_steps: steps of ``subtrajectory``, 2…T
    :param loss: ``square``, the unbiased variance of log w, or ``huber``, the same, linear beyond ``huber_delta``
    :param huber_delta: δ of ``huber`` in nats, or nats a dimension with ``per_dimension``
    :param per_dimension: whether log w is divided by the number of the data's dimensions first
    :param chunk: states that the network is evaluated on at once. More of them than that are evaluated again in the
        backward pass (``torch.utils.checkpoint``), so that memory does not grow with T
    :raises ValueError: for each of them that cannot be, with what can
    """

    likelihood: str = "simple"
    trajectories: int = 2
    images: int | None = None
    chain: str = "full"
    chain_steps: int = 8
    loss: str = "square"
    huber_delta: float = 10.0
    per_dimension: bool = False
    chunk: int = 1024

    def __post_init__(self) -> None:
        choices = {
            "likelihood": ("simple", "vlb"),
            "chain": ("full", "subtrajectory"),
            "loss": ("square", "huber"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"no {name} {getattr(self, name)!r}; there are {' and '.join(known)}")
        if self.trajectories < 2:
            raise ValueError(f"a variance needs at least two trajectories an image, got {self.trajectories}")
        if self.chain_steps < 2:
            raise ValueError(f"chain_steps must be at least 2, got {self.chain_steps}")
        if self.images is not None and self.images < 1:
            raise ValueError(f"images must be at least 1, or None for all, got {self.images}")
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1 state, got {self.chunk}")
        if not self.huber_delta > 0:
            raise ValueError(f"huber_delta must be > 0 nats, got {self.huber_delta}")


@dataclass(frozen=True)
class Loss:
    """total = likelihood + λ · consistency, all [], with graphs to the network's parameters.

    consistency: nats² (nats²/d² with ``per_dimension``); log_w: the mean log w of whole chains, nats, without a graph.
    Both are None where λ = 0, for then no chain is drawn; log_w is none of a sub-trajectory, whose ends' flows it lacks.
    """

    total: Tensor
    likelihood: Tensor
    consistency: Tensor | None
    log_w: Tensor | None


def loss(
    model: DenoisingModel,
    x0: Tensor,
    *,
    weight: float,
    generator: torch.Generator,
    settings: LossSettings | None = None,
) -> Loss:
    """MLE-GFN (arXiv 2209.02606, Algorithm 1): mean_x likelihood term + λ · mean_x Var_τ[log w(τ)], as a ``Loss``.

    Each image gives one state x_t ~ q(x_t|x_0), t uniform in 1…T, to the likelihood term, and M joint trajectories
    τ ~ q(·|x_0) to the consistency term: the unbiased variance, for M = 2 half of the paper's square (eq. 33). The
    noising process q is held; the gradient is P_F's.

    :param model: with the network as its ``network``, (x [N, …], time 0…T−1) → ε_θ
    :param x0: [N, …], float32 or float64, data; pixels scaled to [−1, 1] and on the model's levels if it has such
    :param weight: λ, of either sign; the variance of log w grows with the data's dimension, so images want a small one
        (params.yaml of this repository searches 1e-6…1e-4 for images of 8×8)
    :param generator: on the CPU, for every draw, whatever the device (``mlegfn.randomness.generator`` makes one of a key)
    :param settings: ``LossSettings()`` unless given
    :raises ValueError: for images that are none (no image, integers, half precision, not finite, not on the levels), a
        network whose output has another shape, a λ that is not finite, a generator on another device

    >>> from mlegfn.diffusion.model import DenoisingModel
    >>> from mlegfn.diffusion.process import GaussianDiffusion
    >>> from mlegfn.diffusion.schedules import betas
    >>> from mlegfn.diffusion.variances import fixed_log_variance
    >>> scale = torch.nn.Parameter(torch.tensor(0.5))
    >>> process = GaussianDiffusion(betas(8, start=0.05, end=0.95))
    >>> model = DenoisingModel(lambda x, time: scale * x, process, fixed_log_variance(process, "large"))
    >>> value = loss(model, torch.zeros(4, 2), weight=0.01, generator=torch.Generator().manual_seed(0))
    >>> value.total.backward()
    >>> bool(value.consistency > 0), scale.grad.shape
    (True, torch.Size([]))
    """
    settings = settings or LossSettings()
    _check(model, x0, weight, generator, settings)
    T, chunk = model.timesteps, settings.chunk
    t = onto(x0.device, torch.randint(1, T + 1, (len(x0),), generator=generator))
    eps = onto(x0.device, torch.randn(x0.shape, generator=generator, dtype=x0.dtype))
    x_t = model.process.noise(x0, t, eps)

    def likelihood_of(x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        prediction = model.predict(x_t, t)
        if prediction.eps.shape != x_t.shape:  # which would broadcast to a loss of something else
            raise ValueError(
                f"the network must return ε of x_t's shape {tuple(x_t.shape)}, twice the channels with learned "
                f"variances; its ε has shape {tuple(prediction.eps.shape)}"
            )
        return anchor_loss(model, x0, x_t, t, prediction, settings.likelihood)

    likelihood = _in_chunks(likelihood_of, (x0, x_t, t), chunk).mean()
    if weight == 0:
        return Loss(likelihood, likelihood, None, None)

    chain = sample_chain(model, x0[: settings.images], settings, generator)
    _, x_prev, x_t, t = chain.rows(slice(None))
    log_pf = _in_chunks(model.log_pf, (x_prev, x_t, t), chunk)
    with torch.no_grad():
        fixed = chain.fixed_part(chunk)
    log_w = (chain.sum_over_steps(log_pf) + fixed).view(-1, settings.trajectories)
    table = log_w / x0_dims(x0) if settings.per_dimension else log_w
    square = settings.loss == "square"
    spread = (consistency(table) if square else huber_consistency(table, settings.huber_delta)).mean()
    return Loss(
        likelihood + weight * spread, likelihood, spread, log_w.detach().mean() if chain.whole else None
    )


def _in_chunks(function: Callable[..., Tensor], rows: tuple[Tensor, ...], chunk: int) -> Tensor:
    """function(*rows) [N]; of more rows than ``chunk``, piece by piece, of which only the inputs are kept."""
    if len(rows[0]) <= chunk:
        return function(*rows)
    pieces = zip(*(x.split(chunk) for x in rows), strict=True)
    return torch.cat([checkpoint(function, *piece, use_reentrant=False) for piece in pieces])


def _check(
    model: DenoisingModel, x0: Tensor, weight: float, generator: torch.Generator, settings: LossSettings
) -> None:
    """Refuse what no loss can be made of, with a ValueError that says why."""
    check_precision(x0, "x0")
    if x0.ndim < 2 or not x0.numel():
        raise ValueError(
            f"x0 must be [N, …], at least one image of at least one value, got {tuple(x0.shape)}"
        )
    check_images(model, x0, settings.chunk)
    if not math.isfinite(weight):
        raise ValueError(f"weight must be finite, got {weight}")
    if generator.device.type != "cpu":
        raise ValueError(
            f"generator must be on the CPU, where every draw is made; it is on {generator.device}"
        )
    if weight and settings.chain == "subtrajectory" and settings.chain_steps > model.timesteps:
        raise ValueError(f"chain_steps = {settings.chain_steps}, but the model has {model.timesteps} steps")
