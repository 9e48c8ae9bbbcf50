"""Generating: paths of P_F, kept at evenly spaced times."""

import torch
from tqdm import tqdm

__all__ = ["generate"]


@torch.no_grad()
def generate(model, shape, columns, generator, device="cpu", batch=256):
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
