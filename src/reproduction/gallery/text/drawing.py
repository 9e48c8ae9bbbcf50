"""A text-to-image model at 8×8: a U-Net whose pixels attend to the words of a caption."""

import torch
from diffusers import UNet2DConditionModel

from mlegfn.randomness import batch_indices, generator
from reproduction.gallery.fitting import fit, initialised
from reproduction.gallery.text.blocks import blocks
from reproduction.gallery.text.guidance import ddim, guided
from reproduction.gallery.text.painting import LOW

__all__ = ["attending_unet", "draw_from_text", "train_from_text"]


def attending_unet(network, heads, states):
    """UNet2DConditionModel of a settings.training.Network for [N, 1, 8, 8], with cross-attention to token states of ``states``
    dimensions at the resolutions of ``network.attention``, and in the middle (Nichol et al. 2022, GLIDE,
    arXiv 2112.10741; Rombach et al. 2022, arXiv 2112.10752, §3.3)."""
    return UNet2DConditionModel(
        **blocks(network, "CrossAttn"),
        sample_size=LOW,
        in_channels=1,
        out_channels=1,
        cross_attention_dim=states,
        attention_head_dim=heads,  # in this class of diffusers, the *number* of heads
    )


def train_from_text(settings, frozen, rows, low, process, seed):
    """The averaged U-Net after ``settings.steps`` steps of ε-prediction on scenes ``low`` [N, 1, 8, 8] with captions
    ``rows`` [N]; a caption is replaced by the one without words with probability ``settings.untold``, so that the
    same network learns to draw without being told (Ho & Salimans 2022, Algorithm 1)."""
    network = initialised(
        lambda: attending_unet(settings.network, settings.heads, frozen.states.shape[2]),
        seed,
        "gallery",
        "from text",
    )

    def loss(step):
        draw = generator(seed, "gallery", "from text", step)
        which = batch_indices(seed, "from text", step, settings.batch, len(low))
        x_0, caption = low[which], rows[which]
        untold = torch.rand(len(which), generator=draw) < settings.untold
        caption = torch.where(untold, frozen.nothing, caption)
        t = torch.randint(1, process.timesteps + 1, (len(which),), generator=draw)
        eps = torch.randn(x_0.shape, generator=draw)
        out = predictor(network, frozen, caption)(process.noise(x_0, t, eps), t - 1)
        return (eps - out).square().mean()

    return fit(network, loss, settings.steps, settings.optimizer, "text to 8×8")


def predictor(network, frozen, captions):
    """ε(x, time) of the U-Net for these captions [N] (rows of ``frozen``), which must not attend to padding."""
    states, mask = frozen.states[captions], frozen.mask[captions]

    def predict(x, time):
        return network(x, time, encoder_hidden_states=states, encoder_attention_mask=mask, return_dict=False)[
            0
        ]

    return predict


def draw_from_text(network, frozen, captions, noise, process, steps, weight, batch=180):
    """[N, 1, 8, 8]: a scene for each caption [N] (rows of ``frozen``) from ``noise``, guided with ``weight``."""
    parts = []
    for some, start in zip(captions.split(batch), noise.split(batch), strict=True):
        captioned = predictor(network, frozen, some)
        untold = predictor(network, frozen, torch.full_like(some, frozen.nothing))
        parts.append(ddim(guided(captioned, untold, weight), start, process, steps))
    return torch.cat(parts)
