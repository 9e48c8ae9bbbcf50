"""Points of the plane as 32 bits, in the Gray code of the EB-GFN experiments.

Zhang et al., *Generative Flow Networks for Discrete Probabilistic Modeling* (EB-GFN, arXiv 2202.01361), after Dai
et al. (ALOE, arXiv 2011.05363): each coordinate is a sign bit and 15 magnitude bits, the first digit the most
significant. The plane becomes 2^32 cells with sides 1/s, s = INT_SCALE; a coordinate v falls into the one whose
magnitude is ⌊|v|·s⌋, so that 0 has two, one on each side.
"""

import math

import torch
from torch import Tensor

from mlegfn.data.planar_density import entropy

__all__ = ["BITS", "INT_SCALE", "MAGNITUDE_BITS", "data_entropy", "decode", "encode", "log_cells"]

MAGNITUDE_BITS = 15
BITS = 2 * (1 + MAGNITUDE_BITS)

# Cells a unit of x. EB-GFN's code has 2^15/(max|x| + 2), the maximum over 5,000 points of its sampler seeded with
# numpy's RandomState(1); benchmarks/gray_scale.py draws those from the definitions and prints these numbers. An NLL
# in nats rises by 2·log s with s, so models compare only at the same s. With other points the maximum, and so the
# NLL, would differ: by 0.06 (2spirals) to 0.24 nats (pinwheel) between the extremes of 50 draws.
INT_SCALE = {
    "2spirals": 5978.4863,
    "8gaussians": 5289.6177,
    "pinwheel": 5510.8766,
    "circles": 5668.6377,
    "moons": 5779.7561,
    "swissroll": 6222.6323,
    "checkerboard": 5461.8654,
}


def encode(points: Tensor, int_scale: float, bits: int = MAGNITUDE_BITS) -> Tensor:
    """[N, 2] → int64 [N, 2·(1 + bits)] of 0 and 1: sign (1 = negative) and Gray-coded magnitude of each coordinate.

    :raises ValueError: for points that are not [N, 2] and finite. Points beyond the last cell fall into it.
    """
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must be [N, 2], not {list(points.shape)}")
    if not torch.isfinite(points).all():
        raise ValueError("points must be finite")
    scaled = points.double() * int_scale
    magnitude = scaled.abs().clamp(max=2**bits - 1).floor().long()
    code = magnitude ^ (magnitude >> 1)
    digits = (code[..., None] >> torch.arange(bits - 1, -1, -1)) & 1
    return torch.cat([(scaled < 0).long()[..., None], digits], 2).flatten(1)


def decode(x: Tensor, int_scale: float, bits: int = MAGNITUDE_BITS) -> Tensor:
    """int64 [N, 2·(1 + bits)] → [N, 2] float64: the centres of the cells.

    :raises ValueError: for anything but 0 and 1
    """
    if x.ndim != 2 or x.shape[1] != 2 * (1 + bits):
        raise ValueError(f"x must be [N, {2 * (1 + bits)}], not {list(x.shape)}")
    if not ((x == 0) | (x == 1)).all():
        raise ValueError("x must hold nothing but 0 and 1")
    sign, code = x.view(-1, 2, 1 + bits).split([1, bits], 2)
    plain = code.cumsum(2) % 2  # digit j of the plain binary is the parity of the Gray digits down to j
    magnitude = (plain << torch.arange(bits - 1, -1, -1)).sum(2)
    centres: Tensor = (1 - 2 * sign[..., 0]) * (magnitude.double() + 0.5) / int_scale
    return centres


def log_cells(problem: str) -> float:
    """log of the number of cells a unit of area, nats: −log p(x) of a cell is that of the density, plus this."""
    return 2 * math.log(INT_SCALE[problem])


def data_entropy(problem: str) -> float:
    """H of the 32 bits, nats: the NLL that no model can beat.

    h(p) + 2·log s. The cells are 1e-4 wide and the density's details 0.1, so that is exact to 1e-6; checkerboard's
    edges, which cut through cells, change it by less than 1e-3.
    """
    return entropy(problem) + log_cells(problem)
