"""Reverse variances σ_t²: fixed, or the analytic optimum for a given network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlegfn.diffusion.process import GaussianDiffusion

__all__ = ["analytic_log_variance", "fixed_log_variance"]


def fixed_log_variance(process: GaussianDiffusion, kind: str) -> Tensor:
    """[T+1] float64, log σ_t²: ``large`` is β_t, ``small`` is β̃_t (Ho et al. 2020, §3.2).

    Both with t = 1 replaced by β̃_2, as in DDPM's code: β̃_1 is 0 and has no logarithm.
    """
    tables = {"large": process.beta, "small": process.posterior_variance}
    if kind not in tables:
        raise ValueError(f"no fixed variance {kind!r}; there are large and small")
    table = tables[kind].clone()
    table[1] = process.posterior_variance[2] if process.timesteps > 1 else process.beta[1]
    table[0] = 1.0  # never read
    return table.log()


def analytic_log_variance(process: GaussianDiffusion, mean_squared_error: Tensor | Sequence[float]) -> Tensor:
    """[T+1] float64, log σ_t² with σ_t² = β̃_t + c_t² · E‖ε − ε_θ(x_t, t)‖²/d, c_t = β_t/√(α_t(1 − ᾱ_t)).

    The scalar variance that maximises the bound for a given network: the derivative of
    E[KL(q(x_{t−1}|x_t,x_0) ‖ p)] in σ_t² vanishes there (Bao et al. 2022, arXiv 2201.06503).
    ``mean_squared_error`` [T]: E‖ε − ε_θ‖²/d at t = 1…T.
    """
    error = torch.as_tensor(mean_squared_error, dtype=torch.float64)
    if error.shape != (process.timesteps,):
        raise ValueError(f"expected {process.timesteps} errors, one a step, got shape {tuple(error.shape)}")
    if not (error.isfinite() & (error > 0)).all():
        raise ValueError("every mean squared error must be finite and > 0")
    table = process.posterior_variance.clone()
    table[1:] += process.eps_to_mean[1:] ** 2 * error
    table[0] = 1.0  # never read
    return table.log()
