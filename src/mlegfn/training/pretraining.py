"""Pretraining a DDPM: L_simple on images, one segment from a checkpoint to the next."""

import torch

from mlegfn.randomness import batch_indices, generator, seed_layers
from mlegfn.training.mle_gfn import AnchorBatch, anchor_loss

__all__ = ["anchor_batch", "pretrain_gradient"]


def anchor_batch(process, images, seed, stage, step, batch, flip):
    """The ``AnchorBatch`` of a step: images, flips, times and noise are functions of (seed, stage, step).

    images [N, C, H, W] in [−1, 1]; ``stage`` is a string or tuple of strings and ints.
    """
    key = stage if isinstance(stage, tuple) else (stage,)
    rows = batch_indices(seed, "/".join(map(str, key)), step, batch, len(images))
    x0 = (
        flipped(images[rows.to(images.device)], generator(seed, *key, step, "flip"))
        if flip
        else images[rows.to(images.device)]
    )
    draw = generator(seed, *key, step)
    t = torch.randint(1, process.timesteps + 1, (batch,), generator=draw).to(x0.device)
    eps = torch.randn(x0.shape, generator=draw, dtype=x0.dtype).to(x0.device)
    return AnchorBatch(x0, process.noise(x0, t, eps), t)


def flipped(x, generator):
    """Each image [N, C, H, W] mirrored left to right with probability one half."""
    mirror = torch.rand(len(x), generator=generator).to(x.device) < 0.5
    return torch.where(mirror[:, None, None, None], x.flip(-1), x)


def pretrain_gradient(model, images, settings, flip):
    """The ``accumulate`` function of L_simple for ``training.loop.train``, at one evaluation a state.

    images [N, C, H, W] in the model's range; settings: config.Pretrain.
    """

    def accumulate(step):
        batch = anchor_batch(model.process, images, settings.seed, "pretrain", step, settings.batch, flip)
        seed_layers(settings.seed, "pretrain", step)
        prediction = model.predict(batch.x_t, batch.t)
        loss = anchor_loss(model, batch.x0, batch.x_t, batch.t, prediction, "simple").mean()
        loss.backward()
        return {"step": step + 1, "loss": loss.item()}

    return accumulate
