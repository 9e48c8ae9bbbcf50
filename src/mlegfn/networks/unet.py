"""DDPM's U-Net, as diffusers' UNet2DModel with the settings that make the two equal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor, nn

__all__ = ["build_unet", "eps_network", "reinitialise"]


def build_unet(
    channels: int,
    size: int,
    block_out_channels: Sequence[int],
    attention: Sequence[bool],
    layers_per_block: int,
    norm_num_groups: int,
    dropout: float,
    learned_variance: bool = False,
) -> nn.Module:
    """A ``UNet2DModel`` for [N, channels, size, size] that computes what DDPM's network does.

    diffusers' class defaults differ from DDPM in norm_eps, downsample_padding, flip_sin_to_cos,
    freq_shift and attention_head_dim; with (128, 256, 256, 256), attention at the second
    resolution and two layers a block it has DDPM's 35,746,307 parameters.
    """
    from diffusers import UNet2DModel

    if size % 2 ** (len(block_out_channels) - 1):
        raise ValueError(
            f"{len(block_out_channels)} resolutions need a size divisible by {2 ** (len(block_out_channels) - 1)}, not {size}"
        )
    network = UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels * (2 if learned_variance else 1),
        block_out_channels=tuple(block_out_channels),
        layers_per_block=layers_per_block,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)),
        norm_num_groups=norm_num_groups,
        dropout=dropout,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        attention_head_dim=None,
    )
    return cast("nn.Module", network)


def reinitialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """DDPM's initialisation, in place: fan_avg uniform weights, zero biases, and a scale of 1e-10 on the
    last convolution of each residual block, the attention's output projection and the output
    convolution, so that the network starts near zero (hojonathanho/diffusion, nn.py)."""
    import torch

    with torch.no_grad():
        for name, module in network.named_modules():
            if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                continue
            near_zero = name.endswith((".conv2", "to_out.0")) or name == "conv_out"
            fan_in, fan_out = torch.nn.init._calculate_fan_in_and_fan_out(module.weight)
            limit = math.sqrt(3 * (1e-10 if near_zero else 1.0) / ((fan_in + fan_out) / 2))
            module.weight.copy_((2 * torch.rand(module.weight.shape, generator=generator) - 1) * limit)
            if module.bias is not None:
                module.bias.zero_()
    return network


def eps_network(unet: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """The plain function (x, time) → output that ``DenoisingModel`` wants."""
    return lambda x, time: unet(x, time, return_dict=False)[0]
