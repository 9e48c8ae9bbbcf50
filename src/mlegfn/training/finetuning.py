"""Fine-tuning arms that differ in their loss alone: equal images, noise, steps and network evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import torch

from mlegfn.randomness import batch_indices, generator, onto, seed_layers
from mlegfn.training import distributed
from mlegfn.training.chains import ChainSettings, chain_model, sample_chain
from mlegfn.training.checkpoint import log_variance_of
from mlegfn.training.mle_gfn import AnchorBatch, ConsistencySettings, Evaluations, mle_gfn_backward
from mlegfn.training.pretraining import anchor_batch, flipped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from mlegfn.data.resident import Resident
    from mlegfn.diffusion.model import DenoisingModel
    from mlegfn.training.loop import Entry

__all__ = ["FinetuneSettings", "arm_loss", "extra_states", "finetune_gradient"]


class Consistency(ChainSettings, ConsistencySettings, Protocol):
    """The consistency term: its chains and its loss."""

    @property
    def images(self) -> int:
        """Images a step whose trajectories are drawn."""

    @property
    def weight(self) -> float:
        """λ."""

    @property
    def weight_warmup(self) -> int:
        """Steps over which λ rises linearly from 0."""


class FinetuneSettings(Protocol):
    """What training one arm reads."""

    @property
    def batch(self) -> int: ...

    @property
    def anchor(self) -> str:
        """The likelihood term of the arm ``tbc``, ``simple`` or ``vlb``."""

    @property
    def consistency(self) -> Consistency: ...


def arm_loss(arm: str, settings: FinetuneSettings) -> tuple[str, float]:
    """(likelihood term, λ) of an arm: ``simple`` L_simple, ``vlb`` the bound, ``tbc`` its anchor plus λ·TBC."""
    if arm == "tbc":
        return settings.anchor, settings.consistency.weight
    return arm, 0.0


def extra_states(consistency: Consistency, timesteps: int) -> int:
    """How many states the arms without TBC evaluate on top, to spend what its first pass costs.

    Zero where one pass is enough. The controls put these through a gradient as well, so where
    there is a difference it is in their favour.
    """
    steps = timesteps if consistency.chain == "full" else consistency.chain_steps
    rows = steps * consistency.images * consistency.trajectories
    if consistency.gradient == "exact" and rows <= consistency.chunk:
        return 0
    return rows


def finetune_gradient(
    model: DenoisingModel,
    images: Tensor | Resident,
    settings: FinetuneSettings,
    arm: str,
    key: Sequence[object],
    seed: int,
    flip: bool,
    errors: Tensor | Sequence[float] | None = None,
    kind: str | None = None,
) -> tuple[Callable[[int], Entry], Evaluations]:
    """The ``accumulate`` function of one arm for ``training.loop.train``, and its ``Evaluations``.

    images: as in ``pretraining.anchor_batch``; settings: an object with ``batch``, ``anchor`` (read for ``tbc`` only)
    and ``consistency`` (the chains and the loss of the consistency term); ``key`` names the experiment (the arm is
    not in it: all arms draw the same); errors and kind: as in ``checkpoint.log_variance_of``, for the variances of a
    respaced chain.
    """
    tbc = settings.consistency
    likelihood, full_weight = arm_loss(arm, settings)
    evaluations = Evaluations()
    # A respaced chain comes with its kind; no other one asks for it.
    on_chain = chain_model(model, tbc, lambda process: log_variance_of(process, cast("str", kind), errors))
    extra = 0 if full_weight > 0 else extra_states(tbc, model.timesteps)

    def accumulate(step: int) -> Entry:
        anchor = anchor_batch(model.process, images, seed, ("finetune", *key), step, settings.batch, flip)
        if extra:
            more = anchor_batch(model.process, images, seed, ("finetune", *key, "extra"), step, extra, flip)
            anchor = joined(anchor, more)
        rows = batch_indices(seed, "/".join(map(str, ("chain", *key))), step, tbc.images, len(images))
        x0 = images[onto(images.device, rows)]
        draw = generator(seed, "chain", *key, step)
        if flip:
            x0 = flipped(x0, draw)
        chain = sample_chain(on_chain, x0, tbc, draw)
        weight = full_weight * (min(1.0, (step + 1) / tbc.weight_warmup) if tbc.weight_warmup else 1.0)
        seed_layers(seed, "finetune", *key, step, *distributed.layer_key())
        logs = mle_gfn_backward(model, anchor, chain, tbc, weight, likelihood, evaluations, draw)
        return {"step": step + 1, **logs}

    return accumulate, evaluations


def joined(first: AnchorBatch, second: AnchorBatch) -> AnchorBatch:
    """Two ``AnchorBatch``es as one."""
    x0, x_t, t = (torch.cat([getattr(first, name), getattr(second, name)]) for name in ("x0", "x_t", "t"))
    return AnchorBatch(x0, x_t, t, first.count + second.count)
