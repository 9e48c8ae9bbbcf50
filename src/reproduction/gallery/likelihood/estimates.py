"""Lower bounds on log p(x_0) of equal cost: independent noising paths, and annealed ones."""

import torch

from mlegfn.objectives.bounds import importance_weighted
from mlegfn.randomness import generator
from reproduction.gallery.likelihood.annealed import anneal, log_weight_of

__all__ = ["estimates", "evenly", "independent"]

GRADIENT = 3  # a gradient of log w costs about as much as so many values of it


def evenly(count):
    """1/K, 2/K, …, 1."""
    return torch.arange(1, count + 1, dtype=torch.float64) / count


def estimates(model, x, block, key):
    """{"dims", "weighted" and "annealed": [{"cost", "values" [N] nats, …}]}: at most as many independent paths as the
    longest annealing costs, and its costs in values of log w a datum. Of several annealings a datum, ``block.chains``, the
    values are the mean of log ŵ: the bound that *one* gives, with less chance in it."""
    annealed, log_w = [], log_weight_of(model, x)
    copies = x.repeat_interleave(block.chains, 0)
    for count in block.temperatures:
        draw = generator(*key, count)
        noise = torch.randn(model.timesteps, *copies.shape, generator=draw, dtype=x.dtype)
        annealing = anneal(
            log_weight_of(model, copies), noise, evenly(count), block.step, block.leapfrogs, draw
        )
        annealed.append(
            {
                "cost": GRADIENT * annealing.gradients,
                "temperatures": count,
                "values": annealing.log_w.view(len(x), block.chains).mean(1),
                "path": annealing.path.mean(1),
                "acceptance": annealing.acceptance,
            }
        )
    # Of one draw of paths, so that a longer row of the curve has the paths of the shorter ones.
    weights = independent(log_w, (model.timesteps, *x.shape), x.dtype, annealed[-1]["cost"], key)
    costs = {2**k for k in range(weights.shape[1].bit_length())} | {estimate["cost"] for estimate in annealed}
    weighted = [{"cost": M, "values": importance_weighted(weights[:, :M])} for M in sorted(costs)]
    bound = weights.mean(1)
    return {"dims": x[0].numel(), "bound": bound, "weighted": weighted, "annealed": annealed}


@torch.no_grad()
def independent(log_w, shape, dtype, count, key):
    """[N, count]: log w of independent paths; the noise of path m, of ``shape`` [T, N, ...], is a function of (key, m)."""
    draws = (torch.randn(shape, generator=generator(*key, "path", m), dtype=dtype) for m in range(count))
    return torch.stack([log_w(noise) for noise in draws], 1)
