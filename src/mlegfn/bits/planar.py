"""Planar problems as bits: their data, the order of their digits, and what is measured of a pair.

Draws are functions of (seed, key): two callers with equal keys see equal data.
"""

import math

import torch
from torch import Tensor

from mlegfn.bits.filling import BitFilling
from mlegfn.bits.objective import log_policies
from mlegfn.data import gray, planar
from mlegfn.data.mmd import mmd2_unbiased, mmd_floor
from mlegfn.data.planar_density import log_density
from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.randomness import generator

__all__ = [
    "HAMMING",
    "draw",
    "emptied_at",
    "floor",
    "hamming_mmd",
    "likelihood_fields",
    "log_weights",
    "significance",
    "tested",
]

# EB-GFN's kernel is exp(−0.1 · Hamming distance). Of bits that distance is |x − y|², so it is a Gaussian of σ² = 5.
HAMMING = (math.sqrt(5.0),)
STATES = 65_536  # evaluated at once


def significance(length: int = gray.BITS, coordinates: int = 2) -> Tensor:
    """int64 [D]: the steps at which an order empties the least significant digits first, the signs last."""
    digit = torch.arange(length).view(coordinates, -1).T.flatten()  # the entries, most significant first
    return length - digit.argsort()


def draw(problem: str, count: int, seed: int, *key: str | int) -> Tensor:
    """[count, 32] fresh data as bits; a function of (problem, seed, key)."""
    points = planar.sample(problem, count, generator(seed, "discrete", problem, *key))
    return gray.encode(points, gray.INT_SCALE[problem])


def tested(problem: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(bits [count, 32], log of the data's own probability of each [count]) to test on."""
    points = planar.sample(problem, count, generator(seed, "discrete", problem, "test"))
    return gray.encode(points, gray.INT_SCALE[problem]), log_density(problem, points) - gray.log_cells(
        problem
    )


@torch.no_grad()
def log_weights(pair: BitFilling, x: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """log w [N, count], float64, of ``count`` trajectories of P_B from each x [N, 32]."""
    parts = []
    for part in x.split(max(1, STATES // (count * gray.BITS))):
        xs = part.repeat_interleave(count, 0)
        steps = pair.orders(xs, rng)
        log_w = log_policies(pair, xs, steps, backward=False) - log_policies(pair, xs, steps, backward=True)
        parts.append(log_w.double().sum(1).view(len(part), count))
    return torch.cat(parts)


def likelihood_fields(problem: str, log_w: Tensor, truth: Tensor) -> dict[str, float]:
    """A run's NLL fields, nats, from log-weights [N, K] and the data's own log-probabilities [N].

    NLL = H + mean of (log p_data − log p_model): E[log p_data] = −H is known, so that the points' own chance, a
    hundred times larger than what separates the models, drops out. ``nll_points`` is the plain mean.
    """
    importance, bound = importance_weighted(log_w), elbo(log_w)
    entropy, count = gray.data_entropy(problem), len(log_w)
    return {
        "nll": entropy + (truth - importance).mean().item(),
        "nll_standard_error": (truth - importance).std().item() / math.sqrt(count),
        "elbo_nll": entropy + (truth - bound).mean().item(),
        "nll_points": -importance.mean().item(),
        "nll_points_standard_error": importance.std().item() / math.sqrt(count),
        "log_w_variance": log_w.var(1).mean().item() if log_w.shape[1] > 1 else 0.0,
    }


def hamming_mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased MMD² of bit strings [n, D] and [m, D]."""
    return mmd2_unbiased(x.double(), y.double(), HAMMING)


def floor(problem: str, points: int, repeats: int) -> dict[str, float]:
    """What the MMD² between data and data is: the statistics of ``mmd_floor``."""
    return mmd_floor(lambda n, k: draw(problem, n, 0, "floor", k).double(), points, repeats, HAMMING)


def emptied_at(pair: BitFilling, x: Tensor) -> list[float]:
    """[D]: the mean step at which P_B empties each entry; (T + 1)/2 where it does not matter."""
    steps = pair.orders(x, generator(0, "discrete", "emptied"))
    return [round(value, 2) for value in steps.double().mean(0).tolist()]
