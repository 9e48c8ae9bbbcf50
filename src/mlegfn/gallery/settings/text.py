"""Settings of the stations on text."""

from typing import Annotated, Literal

from pydantic import Field

from mlegfn.setting import Beta, Block, Count, Fraction, Index, NonNegative, Positive, Several, differ
from mlegfn.training_settings import Network, Optimizer
from mlegfn.validation import rule

LONGEST = 8  # tokens of "a small dark seven on the left" and the start


class Clip(Block):
    seeds: Annotated[list[Index], Field(min_length=1)] = Field(description="a training each")
    split_seed: Index = Field(description="of the captions held out and of the test scenes")
    held_out: Fraction = Field(description="share of the captions that no model sees in training")
    length: Several = Field(description="tokens of a caption with its padding")
    width: Several = Field(description="of the text encoder's states")
    heads: Count
    layers: Count = Field(description="of the text encoder")
    channels: Annotated[list[Count], Field(min_length=1, max_length=5)] = Field(
        description="of the image encoder's convolutions, each of which halves the side"
    )
    embedding: Several = Field(description="dimensions of the common space")
    temperature: Positive = Field(description="at the start; it is learnt")
    steps: Count
    batch: Several = Field(description="different captions, with a scene each")
    optimizer: Optimizer
    rounds: Count = Field(description="test scenes of each caption")

    seeds_differ = rule("seeds")(differ)

    @rule("length")
    def captions_fit(length):
        if length < LONGEST:
            return f"must be at least {LONGEST}: the longest caption has seven words, and a start"

    @rule("heads", "width")
    def heads_divide(heads, width):
        if width % heads:
            return f"must divide width, {width}"

    @rule("channels")
    def groups_divide(channels):
        if any(each % 4 for each in channels):
            return "must all be divisible by 4, the groups of each GroupNorm"
