"""Settings of the stations on text."""

from typing import Annotated

from pydantic import Field

from reproduction.settings.training import Network, Noise, Optimizer
from reproduction.settings.types import Block, Count, Fraction, Index, Positive, Several, differ
from reproduction.settings.validation import rule

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
        if any(count % 4 for count in channels):
            return "must all be divisible by 4, the groups of each GroupNorm"


class FromText(Block):
    network: Network = Field(description="U-Net at 8×8; attention: to the caption's words")
    heads: Count = Field(description="of each attention; divides the channels there")
    untold: Fraction = Field(description="share of the captions that training replaces by none, for guidance")
    steps: Count
    batch: Count
    optimizer: Optimizer

    @rule("heads", "network.block_out_channels")
    def heads_divide(heads, channels):
        if any(count % heads for count in channels):
            return f"must divide every entry of block_out_channels, {channels}"


class Upsampling(Block):
    network: Network = Field(description="U-Net at 32×32")
    augmentation: Count = Field(
        description="largest level of the noise on the low-resolution scene, a step of T"
    )
    steps: Count = Field(description="of each of two trainings, with augmentation and without")
    batch: Count
    optimizer: Optimizer


class Noising(Noise):
    """What the diffusion models of a station on text have in common."""

    steps: Count = Field(description="of DDIM; divides T")

    @rule("steps", "timesteps")
    def steps_divide(steps, timesteps):
        if timesteps % steps:
            return f"must divide timesteps, {timesteps}"


Weight = Annotated[float, Field(ge=-1, le=100, allow_inf_nan=False, strict=True)]


class Cascade(Block):
    seed: Index
    scenes: Several = Field(description="drawn once, to train on")
    measuring: Several = Field(description="scenes that the classifiers are fitted to which judge samples")
    noising: Noising
    from_text: FromText
    upsampling: Upsampling
    upsampling_steps: Count = Field(description="of DDIM; divides T")
    guidance: Annotated[list[Weight], Field(min_length=2)] = Field(
        description="weights w that are compared; the first is no guidance, the last is what the other numbers are for"
    )
    levels: Annotated[list[Index], Field(min_length=2)] = Field(
        description="of noise on the samples of the first model; the first is none"
    )
    level: Index = Field(description="the one that the other numbers are for; one of levels")

    @rule("guidance")
    def guidance_starts(weights):
        if weights[0] != 0 or len(set(weights)) < len(weights):
            return "must start with 0.0, no guidance, and name no weight twice"

    @rule("levels", "upsampling.augmentation")
    def levels_learnt(levels, augmentation):
        if levels[0] != 0 or max(levels) > augmentation or len(set(levels)) < len(levels):
            return f"must start with 0, differ, and be at most augmentation, {augmentation}"

    @rule("level", "levels")
    def level_measured(level, levels):
        if level not in levels[1:]:
            return f"must be one of levels other than 0, {levels}"

    @rule("upsampling_steps", "noising.timesteps")
    def upsampling_divides(steps, timesteps):
        if timesteps % steps:
            return f"must divide timesteps, {timesteps}"


class Transformer(Block):
    heads: Count
    width: Several = Field(description="of the transformer's states")
    layers: Count
    untold: Fraction = Field(description="share of the captions that training replaces by none, for guidance")
    steps: Count
    batch: Count
    optimizer: Optimizer

    @rule("heads", "width")
    def heads_divide(heads, width):
        if width % heads:
            return f"must divide width, {width}"


class Decoder(Block):
    network: Network = Field(description="U-Net at 8×8")
    untold: Fraction = Field(
        description="share of the embeddings that training replaces by none, for guidance"
    )
    steps: Count
    batch: Count
    optimizer: Optimizer


class Prior(Block):
    seed: Index
    scenes: Several = Field(description="drawn once, to train on")
    measuring: Several = Field(description="scenes that the classifiers are fitted to which judge samples")
    noising: Noising
    transformer: Transformer = Field(description="from a caption to an image embedding")
    decoder: Decoder = Field(description="from an image embedding to a scene")
    guidance_prior: Weight
    guidance_decoder: Weight
    candidates: Count = Field(description="embeddings drawn for a caption, of which the nearest is taken")
