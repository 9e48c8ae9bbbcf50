"""Pretraining a DDPM: L_simple on images, one segment from a checkpoint to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from mlegfn.randomness import batch_indices, generator, onto, seed_layers
from mlegfn.training import distributed
from mlegfn.training.mle_gfn import AnchorBatch, anchor_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from mlegfn.data.resident import Resident
    from mlegfn.diffusion.model import DenoisingModel
    from mlegfn.diffusion.process import GaussianDiffusion
    from mlegfn.training.loop import Entry

__all__ = ["PretrainSettings", "anchor_batch", "pretrain_gradient"]


class PretrainSettings(Protocol):
    """What pretraining reads beside its optimizer."""

    @property
    def seed(self) -> int: ...

    @property
    def batch(self) -> int:
        """Images a step, of all ranks."""


def anchor_batch(
    process: GaussianDiffusion,
    images: Tensor | Resident,
    seed: int,
    stage: str | tuple[object, ...],
    step: int,
    batch: int,
    flip: bool,
) -> AnchorBatch:
    """The ``AnchorBatch`` of a step: images, flips, times and noise are functions of (seed, stage, step) and of
    the place in the global batch; a rank of several gets its share of it.

    images: [N, C, H, W] in [−1, 1], or what gives them by index (``data.resident.Resident``); ``stage`` is a
    string or tuple of strings and ints.
    """
    key = stage if isinstance(stage, tuple) else (stage,)
    mine, device = distributed.share(batch), images.device
    rows = batch_indices(seed, "/".join(map(str, key)), step, batch, len(images))[mine]
    x0 = images[onto(device, rows)]
    if flip:
        x0 = flipped(x0, generator(seed, *key, step, "flip"), batch)
    draw = generator(seed, *key, step)
    t = torch.randint(1, process.timesteps + 1, (batch,), generator=draw)[mine]
    eps = torch.randn((batch, *x0.shape[1:]), generator=draw, dtype=x0.dtype)[mine]
    t, eps = onto(device, t), onto(device, eps)
    return AnchorBatch(x0, process.noise(x0, t, eps), t, batch)


def flipped(x: Tensor, generator: torch.Generator, count: int | None = None) -> Tensor:
    """Each image [N, C, H, W] mirrored left to right with probability one half; ``count``: x is this rank's
    share of so many."""
    mirror = torch.rand(count or len(x), generator=generator) < 0.5
    mirror = onto(x.device, mirror[distributed.share(count)] if count else mirror)
    return torch.where(mirror[:, None, None, None], x.flip(-1), x)


def pretrain_gradient(
    model: DenoisingModel, images: Tensor | Resident, settings: PretrainSettings, flip: bool
) -> Callable[[int], Entry]:
    """The ``accumulate`` function of L_simple for ``training.loop.train``, at one evaluation a state.

    images: as in ``anchor_batch``; settings: an object with ``seed``, ``batch``.
    """

    def accumulate(step: int) -> Entry:
        batch = anchor_batch(model.process, images, settings.seed, "pretrain", step, settings.batch, flip)
        seed_layers(settings.seed, "pretrain", step, *distributed.layer_key())
        prediction = model.predict(batch.x_t, batch.t)
        losses = anchor_loss(model, batch.x0, batch.x_t, batch.t, prediction, "simple")
        loss = losses.sum() / batch.count
        loss.backward()
        return {"step": step + 1, "loss": distributed.total(loss.detach())}

    return accumulate
