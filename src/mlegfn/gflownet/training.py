"""One training loop for every objective: draw, score, step; everything random is a function of (seed, key, step)."""

import math
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from tqdm import tqdm

from mlegfn.gflownet.losses import log_scale, objective
from mlegfn.gflownet.replay import Replay
from mlegfn.randomness import generator

if TYPE_CHECKING:
    from mlegfn.gflownet.model import D, Model, Table

__all__ = ["Settings", "train"]

M = TypeVar("M", bound="Model[Any]")


class Settings(Protocol):
    """What ``train`` wants of its settings."""

    @property
    def steps(self) -> int: ...

    @property
    def batch(self) -> int:
        """Trajectories a step."""

    @property
    def lr(self) -> float: ...

    @property
    def log_z_lr(self) -> float: ...

    @property
    def exploration(self) -> float:
        """Share of uniform actions."""

    @property
    def replay(self) -> float:
        """Share of a batch that comes from a buffer."""

    @property
    def capacity(self) -> int:
        """Objects that the buffer holds."""


def train(
    model: M,
    name: str,
    settings: Settings,
    *key: object,
    seed: int = 0,
    evaluate: Callable[[int], object] | None = None,
    evaluate_at: Container[int] = (),
    description: str | None = None,
    **options: Any,
) -> M:
    """Train ``model`` (``GFlowNet`` or ``ContinuousGFlowNet``) in place by ``losses.OBJECTIVES[name]``; returns it.

    Adam, a rate for ``log_offset`` (log Z, for flow matching an offset) apart, both falling linearly to 0 (arXiv 2410.09355, App. E: polynomial decay).

    :param settings: steps, batch (trajectories a step), lr, log_z_lr; exploration (share of uniform actions) and
        replay (share of a batch that comes from a buffer of the last ``capacity`` objects), both 0 for the objectives
        that are valid on-policy only
    :param evaluate: called as evaluate(step) after each of the steps ``evaluate_at``
    :param options: of the objective: alpha, control_variate, lam, bound, log_scale; ``log_scale="initial"`` takes
        that of the first batch for all, as the paper does
    :raises ValueError: for an objective that such trajectories are not valid for, and where a loss is not finite
    """
    chosen = objective(name, on_policy=settings.exploration == 0 and settings.replay == 0)
    groups = [{"params": list(model.policy.parameters()), "lr": settings.lr}]
    if chosen.log_z:
        groups.append({"params": [model.log_offset], "lr": settings.log_z_lr})
    optimizer = torch.optim.Adam(groups, fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    buffer = Replay(settings.capacity) if settings.replay else None
    for step in tqdm(range(settings.steps), desc=description, mininterval=5, disable=description is None):
        table = model.table(settings.batch)
        drawn = _draw(model, settings, generator(seed, *key, "draw", step), buffer, table)
        if step == 0 and chosen.log_z:
            model.guess_log_z(drawn, table)
        if step == 0 and options.get("log_scale") == "initial":
            options["log_scale"] = log_scale(name, model.score(drawn, table=table), options.get("alpha", 0.5))
        value = model.loss(name, drawn, table, **options)
        if not math.isfinite(value.item()):
            raise ValueError(f"the loss is {value.item()} at step {step}; a smaller lr may help")
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * (1 - step / settings.steps)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        if evaluate is not None and step + 1 in evaluate_at:
            evaluate(step + 1)
    return model


def _draw(
    model: "Model[D]", settings: Settings, rng: torch.Generator, buffer: Replay | None, table: "Table | None"
) -> "D":
    """The trajectories of one step, and what they leave in the buffer."""
    replayed = round(settings.replay * settings.batch) if buffer is not None and len(buffer) else 0
    drawn = model.rollout(settings.batch - replayed, rng, settings.exploration, table)
    if buffer is None:
        return drawn
    fresh = drawn.objects
    if replayed:
        drawn = model.join(drawn, model.back(buffer.draw(replayed, rng), rng))
    buffer.add(fresh)
    return drawn
