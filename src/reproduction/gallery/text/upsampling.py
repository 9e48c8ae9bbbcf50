"""Super-resolution from 8×8 to 32×32 by diffusion, with noise-conditioning augmentation."""

import torch
from diffusers import UNet2DModel
from torch.nn import functional as F

from mlegfn.randomness import batch_indices, generator
from reproduction.gallery.fitting import fit, initialised
from reproduction.gallery.text.blocks import blocks
from reproduction.gallery.text.guidance import ddim
from reproduction.gallery.text.painting import HIGH, reduce

__all__ = ["train_upsampler", "upsample", "upsampling_unet"]


def upsampling_unet(network):
    """UNet2DModel of a settings.training.Network: (x_t beside the enlarged low-resolution scene [N, 2, 32, 32], t [N], level of the
    latter's noise [N]) → v [N, 1, 32, 32].

    The level has an embedding like the time's, and is added to it (Ho et al. 2022, Cascaded Diffusion Models, §3).
    """
    return UNet2DModel(
        **blocks(network),
        sample_size=HIGH,
        in_channels=2,
        out_channels=1,
        class_embed_type="timestep",
        add_attention=False,
    )


def train_upsampler(settings, high, process, seed, augmentation):
    """The averaged U-Net trained on scenes ``high`` [N, 1, 32, 32] and their own reductions to 8×8.

    augmentation: the low-resolution scene z is noised to z_s, s uniform in 0…augmentation (0: never), and the network
    is told s. It learns not to believe every pixel of z, as it must not when z is another model's sample.

    The network predicts v = √ᾱ_t ε − √(1 − ᾱ_t) x_0 (Salimans & Ho 2022, arXiv 2202.00512, §4), as Imagen Video's
    super-resolution does. With ε, x̂_0 = (x_t − √(1 − ᾱ_t) ε)/√ᾱ_t is an error over nearly nothing at the noisy end, and
    a few steps of sampling cannot mend what the first says of a whole scene's brightness: black paper became grey.
    """
    network = initialised(lambda: upsampling_unet(settings.network), seed, "gallery", "upsampling")

    def loss(step):
        draw = generator(seed, "gallery", "upsampling", step)
        x_0 = high[batch_indices(seed, "upsampling", step, settings.batch, len(high))]
        t = torch.randint(1, process.timesteps + 1, (len(x_0),), generator=draw)
        level = torch.randint(0, augmentation + 1, (len(x_0),), generator=draw)
        eps = torch.randn(x_0.shape, generator=draw)
        low = reduce(x_0)
        low = process.noise(low, level, torch.randn(low.shape, generator=draw))
        v = process.table("sqrt_alpha_bar", t, x_0) * eps - process.table("noise_std", t, x_0) * x_0
        return (v - predictor(network, low, level)(process.noise(x_0, t, eps), t - 1)).square().mean()

    return fit(network, loss, settings.steps, settings.optimizer, f"8×8 to 32×32, levels to {augmentation}")


def predictor(network, low, level):
    """v(x, time) of the U-Net given scenes ``low`` [N, 1, 8, 8], noised to ``level`` [N]."""
    beside = F.interpolate(low, size=(HIGH, HIGH), mode="bilinear", align_corners=False)

    def predict(x, time):
        return network(torch.cat([x, beside], 1), time, class_labels=level, return_dict=False)[0]

    return predict


def upsample(network, low, process, steps, level, draw, batch=90):
    """[N, 1, 32, 32]: scenes that ``low`` [N, 1, 8, 8] may be the reduction of, after noising it to ``level``."""
    noise = torch.randn(len(low), 1, HIGH, HIGH, generator=draw)
    low = process.noise(low, level, torch.randn(low.shape, generator=draw))
    return torch.cat(
        [
            ddim(
                predictor(network, some, torch.full((len(some),), level)),
                start,
                process,
                steps,
                "v_prediction",
            )
            for some, start in zip(low.split(batch), noise.split(batch), strict=True)
        ]
    )
