"""Training on joint trajectories: a loss of log w(τ) alone, and how its parts pull at the parameters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

from mlegfn.objectives.bounds import elbo
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import batch_indices, generator
from mlegfn.training.chains import sample_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from mlegfn.diffusion.model import DenoisingModel
    from mlegfn.training.loop import Entry

__all__ = ["alignment", "joint_gradient", "joint_log_weights", "mean_product"]


def joint_log_weights(model: DenoisingModel, x0: Tensor, trajectories: int, draw: torch.Generator) -> Tensor:
    """[B, M] float64, nats: log w(τ) of M = ``trajectories`` joint noising paths of each of x0 [B, ...], with a graph.

    log w(τ) = log p(x_T) + Σ_t [log P_F(x_{t−1}|x_t) − log P_B(x_t|x_{t−1})]; all B·M·T states in one evaluation.
    """
    wanted = SimpleNamespace(trajectories=trajectories, chain="full", chain_steps=model.timesteps)
    chain = sample_chain(model, x0, wanted, draw)
    _, x_prev, x_t, t = chain.rows(slice(None))
    log_pf = model.log_pf(x_prev, x_t, t)
    return (chain.sum_over_steps(log_pf) + chain.fixed_part(chain.count)).view(len(x0), trajectories)


def joint_gradient(
    model: DenoisingModel,
    points: Tensor,
    loss: Callable[[Tensor], Tensor],
    trajectories: int,
    batch: int,
    seed: int,
    key: Sequence[object],
) -> Callable[[int], Entry]:
    """The ``accumulate`` function of a loss of log w for ``training.loop.train``.

    points: [N, ...], of which each step sees ``batch``; loss: log w [B, M] → [B], nats. Points and noise are functions of
    (seed, key, step) and of no loss, so that two losses with the same key see the same. Entries have ``loss`` and
    ``bound``, − mean log w, in nats.
    """

    def accumulate(step: int) -> Entry:
        rows = batch_indices(seed, "/".join(map(str, ("joint", *key))), step, batch, len(points))
        draw = generator(seed, "joint", *key, step)
        log_w = joint_log_weights(model, points[rows], trajectories, draw)
        value = loss(log_w).mean()
        value.backward()
        return {"step": step + 1, "loss": value.detach(), "bound": -log_w.detach().mean()}

    return accumulate


def alignment(
    model: DenoisingModel,
    parameters: Sequence[torch.nn.Parameter],
    points: Tensor,
    trajectories: int,
    batch: int,
    batches: int,
    seed: int,
    key: Sequence[object],
) -> dict[str, dict[str, float]]:
    """‖∇N‖², ∇N·∇V and ‖∇V‖² of N = −E[log w] and V = E Var[log w], each with its standard error.

    With independent estimates g_b, h_b of two gradients, Σ_{b≠c} g_b·h_c / (G(G−1)) is unbiased for the product of their
    means, whereas ‖mean g_b‖² is too large by what the batches differ. G = ``batches`` of ``batch`` points each; standard
    errors by the jackknife over batches. An optimum of the bound has ‖∇N‖² = 0; descending N + λV, λ > 0, lowers
    −log p ≈ N − ½V to first order only where ∇N·∇V > ½‖∇V‖² (docs/consistency.md).

    Returns {"bound_squared", "bound_variance", "variance_squared": {"value", "standard_error"}}.
    """
    rows = {"bound": [], "variance": []}  # type: dict[str, list[Tensor]]
    for number in range(batches):
        chosen = batch_indices(seed, "/".join(map(str, ("alignment", *key))), number, batch, len(points))
        draw = generator(seed, "alignment", *key, number)
        log_w = joint_log_weights(model, points[chosen], trajectories, draw)
        for name, value in (("bound", -elbo(log_w).mean()), ("variance", consistency(log_w).mean())):
            gradient = torch.autograd.grad(value, list(parameters), retain_graph=name == "bound")
            rows[name].append(torch.cat([part.flatten() for part in gradient]).double())
    g, h = (torch.stack(rows[name]) for name in ("bound", "variance"))
    return {
        "bound_squared": _product(g, g),
        "bound_variance": _product(g, h),
        "variance_squared": _product(h, h),
    }


def mean_product(one: Tensor, other: Tensor) -> float:
    """E[g]·E[h] from estimates [G, P] of two gradients, without bias: Σ_{b≠c} g_b·h_c / (G(G − 1)).

    Rows are independent of each other, but row b of ``one`` and of ``other`` may be of one batch, which is why these are not
    multiplied. ValueError for fewer than two rows.
    """
    count = len(one)
    if count < 2:
        raise ValueError("the product of two means needs at least two batches")
    return float((one.sum(0) @ other.sum(0) - (one * other).sum()) / (count * (count - 1)))


def _product(g: Tensor, h: Tensor) -> dict[str, float]:
    """E[g]·E[h] from estimates [G, P] that are independent between rows, with the jackknife's standard error."""
    table = g @ h.T
    table = (table + table.T) / 2
    table.fill_diagonal_(0)
    count, total, own = len(g), table.sum(), table.sum(1)
    without = (total - 2 * own) / ((count - 1) * (count - 2))
    error = ((count - 1) / count * (without - without.mean()).pow(2).sum()).sqrt()
    return {"value": float(total / (count * (count - 1))), "standard_error": float(error)}
