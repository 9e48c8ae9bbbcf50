"""Noise schedules: β_1 … β_T as a float64 tensor [T]."""

import math

import torch

__all__ = ["betas"]


def betas(timesteps: int, schedule: str = "linear", start: float = 1e-4, end: float = 0.02) -> torch.Tensor:
    """[T] float64. ``linear``: from ``start`` to ``end`` (Ho et al. 2020, §4). ``cosine``:
    ᾱ_t = f(t)/f(0), f(t) = cos²(π/2 · (t/T + s)/(1 + s)), s = 0.008, β ≤ 0.999
    (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17). Raises ValueError for no step, and for an unknown schedule.

    >>> betas(3, start=0.1, end=0.3).tolist()
    [0.1, 0.2, 0.3]
    """
    if timesteps < 1:
        raise ValueError(f"a schedule needs at least one step, got {timesteps}")
    if schedule == "linear":
        return torch.linspace(start, end, timesteps, dtype=torch.float64)
    if schedule == "cosine":
        time = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
        f = torch.cos(math.pi / 2 * (time + 0.008) / 1.008) ** 2
        return (1 - f[1:] / f[:-1]).clamp(max=0.999)
    raise ValueError(f"no schedule {schedule!r}; there are linear and cosine")
