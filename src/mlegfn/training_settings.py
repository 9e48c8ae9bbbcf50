"""Noise, networks and optimisers in params.yaml: the same blocks for the image experiment and the gallery."""

from typing import Annotated, Literal

from pydantic import Field

from mlegfn.setting import Beta, Block, Count, Fraction, Index, Positive, Several, Switch
from mlegfn.validation import rule


class LinearNoise(Block):
    timesteps: Several = Field(description="T")
    beta_start: Beta = Field(description="β_1 of the linear schedule")
    beta_end: Beta = Field(description="β_T of the linear schedule")

    @rule("beta_end", "beta_start")
    def betas_rise(end, start):
        if end < start:
            return f"must not be below beta_start, {start}"


class Noise(LinearNoise):
    beta_schedule: Literal["linear", "cosine"]


class Network(Block):
    block_out_channels: Annotated[list[Count], Field(min_length=1)] = Field(
        description="U-Net channels, one entry a resolution"
    )
    attention: Annotated[list[Switch], Field(min_length=1)] = Field(
        description="self-attention at each resolution"
    )
    layers_per_block: Count = Field(description="residual blocks a resolution")
    norm_num_groups: Count = Field(description="groups of each GroupNorm; divides every channel count")
    dropout: Fraction

    @rule("attention", "block_out_channels")
    def resolutions_match(attention, channels):
        if len(attention) != len(channels):
            return f"must have as many entries as block_out_channels, {len(channels)}"

    @rule("norm_num_groups", "block_out_channels")
    def groups_divide(groups, channels):
        if any(c % groups for c in channels):
            return f"must divide every entry of block_out_channels, {channels}"


class Optimizer(Block):
    lr: Positive
    warmup: Index = Field(description="steps over which the learning rate rises linearly to lr")
    clip: Positive = Field(description="largest gradient norm")
    ema_decay: Fraction
