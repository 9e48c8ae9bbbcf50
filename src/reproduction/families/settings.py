"""The settings of the model families: one block of params.yaml for each scale that has them."""

from typing import Annotated

from pydantic import Field

from mlegfn import families
from reproduction.settings.types import Block, Count, Index, Positive, Several, differ
from reproduction.settings.validation import rule

__all__ = ["Families", "Family"]


class Family(Block):
    """One model family's training; what a family has no use for, it ignores."""

    steps: Count = Field(description="training steps")
    batch: Count = Field(description="data a step")
    lr: Positive = Field(description="Adam's learning rate, which falls to 0 along a cosine")
    hidden: Count = Field(description="width of the networks")
    timesteps: Several = Field(description="T: layers, latents or time steps of a trajectory")
    train_points: Count = Field(description="how many data to train on; a data set has no more than it has")
    test_points: Several
    trajectories: Several = Field(description="K of the importance-weighted bounds")


class Families(Block):
    """Every model family as a GFlowNet (src/mlegfn/families, one file each): Table 1."""

    seeds: Annotated[list[Index], Field(min_length=1)]
    settings: Annotated[dict[str, Family], Field(min_length=1)] = Field(
        description="for each family of the scale, by the name of its file in src/mlegfn/families"
    )

    seeds_differ = rule("seeds")(differ)

    @rule("settings")
    def families_exist(settings):
        for name in settings:
            if name not in families.names():
                return f"no family {name!r}; there are {', '.join(families.names())}"
