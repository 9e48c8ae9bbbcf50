"""Networks and optimisers in params.yaml: the same blocks for the image experiment and the gallery."""

from typing import Annotated

from pydantic import Field

from mlegfn.setting import Block, Count, Fraction, Index, Positive, Switch
from mlegfn.validation import rule


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
