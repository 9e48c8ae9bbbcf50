"""Generating: paths of P_F, kept at evenly spaced times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlegfn.diffusion.model import DenoisingModel

__all__ = ["generate"]


@torch.no_grad()
def generate(
    model: DenoisingModel,
    shape: Sequence[int],
    columns: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    batch: int = 256,
) -> tuple[Tensor, Tensor]:
    """Sample N = shape[0] paths x_T → x_0 (Ho et al. 2020, Algorithm 2).

    Returns (states [K, N, ...] on the CPU, times int64 [K]), K ≤ ``columns`` times from T down to 0; the
    last state is x_0: the mean of the final step, without noise.
    """
    times = torch.linspace(model.timesteps, 0, columns).round().long().unique().flip(0)
    groups = range(0, shape[0], batch)
    paths = [
        model.sample_pf((min(batch, shape[0] - start), *shape[1:]), generator, device, keep=times).cpu()
        for start in tqdm(groups, desc="sampling", unit="batch", disable=len(groups) < 2)
    ]
    return torch.cat(paths, dim=1), times
