"""Sliced Wasserstein distance: how far apart two sets are, without any network or density.

J. Rabin, G. Peyré, J. Delon, M. Bernot, *Wasserstein Barycenter and its Application to Texture Mixing*,
SSVM 2011; on patches of generated images: T. Karras et al., *Progressive Growing of GANs*, ICLR 2018.

Our own few lines, because POT, whose ``ot.sliced_wasserstein_distance`` they equal (docs/decisions.md), is
175 MB of compiled solvers that nothing here uses, and adds 2 s to every import.
"""

import torch
from torch import Tensor

__all__ = ["patches", "sliced_wasserstein", "unit_directions"]

VALUES = 2**24  # projected values held at once of each set: 128 MiB in float64


def unit_directions(dimension: int, count: int, generator: torch.Generator) -> Tensor:
    """[dimension, count] float64: directions uniform on the unit sphere, one a column."""
    columns = torch.randn(dimension, count, generator=generator, dtype=torch.float64)
    unit: Tensor = columns / columns.norm(dim=0)
    return unit


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor) -> float:
    """√(mean over directions θ of W_2²(θᵀx, θᵀy)) of x [n, d] and y [n, d], a float in the units of x.

    On a line the best transport pairs the sorted values, so W_2² is their mean squared difference. A shift
    by v adds |v|²/d to the square: the distance reads like a root mean square per dimension. It is zero for
    equal sets, and *not* for two sets from one law; what is left there falls like 1/√n.

    directions: [d, k], unit columns (``unit_directions``); equal ones make two distances comparable
    :raises ValueError: for sets of other shapes, empty ones, or values that are not finite
    """
    if x.ndim != 2 or x.shape != y.shape or x.numel() == 0:
        raise ValueError(f"sets must both be [n, d] with n, d ≥ 1, not {list(x.shape)} and {list(y.shape)}")
    if directions.ndim != 2 or len(directions) != x.shape[1] or directions.numel() == 0:
        raise ValueError(f"directions must be [{x.shape[1]}, k] with k ≥ 1, not {list(directions.shape)}")
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("sets must be finite")
    x, y, directions = x.double(), y.double(), directions.to(x.device)
    total = 0.0
    for part in directions.split(max(1, VALUES // len(x)), dim=1):
        gap = (part.T @ x.T).sort(dim=1).values - (part.T @ y.T).sort(dim=1).values
        total += gap.square().mean(dim=1).sum().item()
    distance: float = (total / directions.shape[1]) ** 0.5
    return distance


def patches(images: Tensor, size: int, per_image: int, generator: torch.Generator) -> Tensor:
    """[N·per_image, C·size·size]: ``per_image`` square patches of each image [N, C, H, W], at random places.

    The places are a function of the generator and of the images' shape, so that two sets of images can be
    cut at the same places, and no difference in distance comes from where they were cut.
    """
    count, _, height, width = images.shape
    if not 1 <= size <= min(height, width):
        raise ValueError(f"patches of {size} do not fit into images of {height} × {width}")
    top, left = (
        torch.randint(side - size + 1, (count, per_image), generator=generator).to(images.device)
        for side in (height, width)
    )
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # [N, C, H', W', size, size], a view
    image = torch.arange(count, device=images.device)[:, None]
    return windows[image, :, top, left].flatten(0, 1).flatten(1)
