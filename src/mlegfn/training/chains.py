"""The chains over which consistency is asked: joint trajectories of the same x, M of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.randomness import onto

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from mlegfn.diffusion.process import GaussianDiffusion

__all__ = ["Chain", "ChainSettings", "chain_model", "sample_chain"]


class ChainSettings(Protocol):
    """Which chain consistency is asked over, and how often it is drawn."""

    @property
    def chain(self) -> str:
        """``full``, ``respaced`` or ``subtrajectory``."""

    @property
    def chain_steps(self) -> int:
        """Steps of a chain that is not the full one."""

    @property
    def trajectories(self) -> int:
        """M of each image."""


@dataclass
class Chain:
    """M joint trajectories of each of B images, and the model that scores them.

    states [S+1, B·M, ...], image by image; ``first``: the chain's steps are first+1 … first+S of
    ``model``; ``whole``: it runs from x_0 to x_T, so log w includes the prior.
    """

    model: DenoisingModel
    x0: Tensor
    states: Tensor
    first: int
    whole: bool

    @property
    def count(self) -> int:
        """Rows of the flattened chain: S·B·M, the network evaluations of one pass."""
        return (self.states.shape[0] - 1) * self.states.shape[1]

    def rows(self, part: slice | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(x0, x_prev, x_t, t) of the flattened rows ``part`` (a slice or int64 tensor)."""
        width, device = self.states.shape[1], self.states.device
        row = torch.arange(self.count, device=device)[part] if isinstance(part, slice) else onto(device, part)
        image = row % width // (width // len(self.x0))
        t = self.first + 1 + row // width
        chosen = part if isinstance(part, slice) else row  # a slice is a view, not a copy
        return (
            self.x0[image],
            self.states[:-1].flatten(0, 1)[chosen],
            self.states[1:].flatten(0, 1)[chosen],
            t,
        )

    def fixed_part(self, chunk: int = 1024) -> Tensor:
        """[B·M]: −Σ_t log P_B, plus the prior of a whole chain: what the network has no say in.

        In pieces of ``chunk`` rows: the temporaries of all rows at once are several times the states.
        """
        pieces = [
            self.model.log_pb(*self.rows(slice(start, start + chunk))[1:])
            for start in range(0, self.count, chunk)
        ]
        prior = self.model.log_prior(self.states[-1]).double() if self.whole else 0.0
        return prior - self.sum_over_steps(torch.cat(pieces))

    def sum_over_steps(self, log_pf: Tensor) -> Tensor:
        """[S·B·M] → [B·M] in float64: per-step terms are large and cancel."""
        return log_pf.view(-1, self.states.shape[1]).sum(0, dtype=torch.float64)


def chain_model(
    model: DenoisingModel,
    settings: ChainSettings,
    variance_of: Callable[[GaussianDiffusion], Tensor | None],
) -> DenoisingModel:
    """The model on the chain that ``settings.chain`` names; ``variance_of(process)`` gives its table."""
    if settings.chain != "respaced":
        return model
    process = model.process.respaced(settings.chain_steps)
    return model.with_process(process, variance_of(process))


def sample_chain(
    model: DenoisingModel, x0: Tensor, settings: ChainSettings, generator: torch.Generator
) -> Chain:
    """Draw M trajectories of each image x0 [B, ...] on ``model``'s chain.

    ``full`` and ``respaced``: M noising paths from the same x_0. ``subtrajectory``: both ends x_s, x_t
    are drawn once an image, and M bridges q(x_{s+1…t−1} | x_s, x_t) between them; the flows at
    the ends cancel in differences, so an exact model has no residual.
    """
    M, T = settings.trajectories, model.timesteps
    if settings.chain != "subtrajectory":
        states = model.sample_pb(x0.repeat_interleave(M, 0), generator)
        return Chain(model, x0, states, first=0, whole=True)
    width = settings.chain_steps
    if not 2 <= width <= T:
        raise ValueError(f"a sub-trajectory with something to vary has 2 to {T} steps, not {width}")
    s = int(torch.randint(T - width + 1, (), generator=generator))
    noise = onto(x0.device, torch.randn(2, *x0.shape, generator=generator, dtype=x0.dtype))
    process = model.process
    x_s = process.noise(x0, s, noise[0])
    ratio = (process.alpha_bar[s + width] / process.alpha_bar[s]).item()
    x_t = ratio**0.5 * x_s + (1 - ratio) ** 0.5 * noise[1]
    start, end = (x.repeat_interleave(M, 0) for x in (x_s, x_t))
    states = process.sample_bridge(start, end, s, s + width, generator)
    return Chain(model, x0, states, first=s, whole=False)
