"""The settings of the planar problems as bits: one block of params.yaml for each scale that has them."""

from typing import Annotated, Literal

from pydantic import Field

from reproduction.settings.types import Block, Count, Index, NonNegative, Positive, Several, Switch, differ
from reproduction.settings.validation import rule

__all__ = ["Arm", "Bits"]

Arm = Literal["random", "random_tbc", "learned", "learned_tbc", "ordered"]


class Bits(Block):
    """MLE-GFN on the planar problems as 32 Gray-coded bits, the setup of EB-GFN.

    A scale's problems are in the list ``bits_runs``.
    """

    seeds: Annotated[list[Index], Field(min_length=1)]
    arms: Annotated[list[Arm], Field(min_length=1)] = Field(
        description="P_B uniform, learned, or a fixed order from the least significant digit up; with TBC or without"
    )
    steps: Count
    batch: Count = Field(description="fresh data a step; EB-GFN draws 128 in each of 100,000 steps")
    lr: Positive = Field(description="Adam's learning rate, which falls to 0 along a cosine")
    hidden: Count = Field(description="width of P_F's network")
    layers: Count = Field(description="its hidden layers")
    decoded: Switch = Field(description="whether it sees the Gray digits as plain binary too, and speaks it")
    times: Count = Field(description="states of a trajectory that train P_F, of 32")
    backward_hidden: Count = Field(description="width of a learned P_B's network, with one hidden layer")
    backward_points: Count = Field(
        description="data a step whose whole trajectories train P_B, and are TBC's"
    )
    trajectories: Several = Field(description="M, trajectories of each of them")
    weight: NonNegative = Field(
        description="λ of TBC, the unbiased variance of log w over the M trajectories"
    )
    policy: Literal["forward", "backward", "both"] = Field(description="which policies TBC trains")
    test_points: Several
    importance_samples: Several = Field(description="K, trajectories a test point for the NLL")
    sample_points: Count
    mmd_points: Several
    mmd_repeats: Several = Field(description="data-against-data estimates behind the floor of the MMD")

    @rule("times")
    def times_fit(times):
        return None if times <= 32 else "must be at most 32, the steps of a trajectory"

    @rule("backward_points", "batch")
    def points_are_of_the_batch(points, batch):
        return None if points <= batch else f"must be at most batch, {batch}"

    @rule("mmd_points", "sample_points")
    def enough_samples(points, samples):
        return None if points <= samples else f"must be at most sample_points, {samples}"

    seeds_differ = rule("seeds")(differ)
    arms_differ = rule("arms")(differ)
