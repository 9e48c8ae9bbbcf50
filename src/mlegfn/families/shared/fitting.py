"""The one training loop of the families, and the numbers that they share."""

import math
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.trajectory import MarkovPair, score

__all__ = ["Pace", "bounds", "log_weights", "train"]


class Pace(Protocol):
    """What ``train`` wants of its settings."""

    @property
    def steps(self) -> int: ...

    @property
    def lr(self) -> float: ...


def train(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[int], Tensor],
    settings: Pace,
    description: str | None = None,
) -> None:
    """Adam for ``settings.steps`` steps of ``loss(step) → scalar``, its rate falling to 0 along a cosine.

    :param loss: draws its own data; everything random in it must be a function of ``step``
    :raises ValueError: where a loss is not finite
    """
    parameters = [p for p in parameters if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    bar = tqdm(range(settings.steps), desc=description, mininterval=5, disable=description is None)
    for step in bar:
        value = loss(step)
        if not math.isfinite(value.item()):
            raise ValueError(f"the loss is {value.item()} at step {step}; a smaller lr may help")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        schedule.step()


def log_weights(pair: MarkovPair, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """log w [N, count] of ``count`` trajectories τ ~ P_B(·|x) of each x [N, ...]."""
    states = pair.sample_pb(x.repeat_interleave(count, 0), generator)
    return score(pair, states).log_w.view(len(x), count)


@torch.no_grad()
def bounds(
    pair: MarkovPair, x: Tensor, count: int, generator: torch.Generator, batch: int = 4096
) -> tuple[Tensor, Tensor]:
    """(ELBO [N], importance-weighted bound [N]) of each x, nats, from ``count`` trajectories; about ``batch``
    trajectories at once."""
    parts = [log_weights(pair, part, count, generator).double() for part in x.split(max(1, batch // count))]
    log_w = torch.cat(parts)
    return elbo(log_w), importance_weighted(log_w)
