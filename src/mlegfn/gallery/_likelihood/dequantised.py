"""Images on a lattice as points of a density, and the chain's bound on that density."""

import math
from dataclasses import dataclass

import torch

__all__ = ["Dequantised", "dequantise", "path_log_weight"]


@dataclass(frozen=True)
class Dequantised:
    """y [N, ...], to be read as x_t at t = ``start``, and log of the volume of a bin there, nats, so that

    log P(x_0) = log ∫_bin p(y) dy ≥ E_y[log p(y)] + log_volume   (Theis et al. 2016, arXiv 1511.01844, §3.1).
    """

    y: torch.Tensor
    start: int
    log_volume: float


def dequantise(process, x0, levels, generator):
    """``Dequantised`` of images x0 [N, ...] at ``levels`` grey values in [−1, 1]: with u uniform over a bin,
    y = √ᾱ_s (x_0 + u).

    A network trained on the lattice knows x_t only with the noise of t. s is the first t whose noise, relative to x_0, is as
    wide as u: √((1 − ᾱ_s)/ᾱ_s) ≥ 1/(√3 (levels − 1)). ValueError where no t has as much.
    """
    half = 1 / (levels - 1)
    wide = process.noise_std >= half / math.sqrt(3) * process.sqrt_alpha_bar
    if not wide[:-1].any():
        raise ValueError(f"no step of the chain before its last has the noise of a bin of {levels} levels")
    start = int(wide.nonzero()[0])
    u = half * (2 * torch.rand(x0.shape, generator=generator, dtype=x0.dtype) - 1)
    scale = process.sqrt_alpha_bar[start].item()
    return Dequantised(scale * (x0 + u), start, x0[0].numel() * math.log(2 * half * scale))


@torch.no_grad()
def path_log_weight(model, y, start, generator):
    """[N] float64, nats: log w of one joint noising path x_s = y, x_{s+1}, …, x_T of each y [N, ...], s = ``start``:

    log p(x_T) + Σ_{t>s} [log P_F(x_{t−1}|x_t) − log q(x_t|x_{t−1})]. Its mean bounds the chain's log p(x_s = y) from below.
    model: a DenoisingModel without levels. The noise is a function of the generator alone.
    """
    if model.levels is not None:
        raise ValueError("a density is bounded by a model without levels")
    log_w, process = torch.zeros(len(y), dtype=torch.float64), model.process
    for step in range(start + 1, model.timesteps + 1):
        before, t = y, torch.full((len(y),), step)
        noise = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        y = process.table("sqrt_alpha", t, y) * before + process.table("sqrt_beta", t, y) * noise
        log_w += model.log_pf(before, y, t).double() - model.log_pb(before, y, t).double()
    return log_w + model.log_prior(y).double()
