"""The settings of the part *which policy*: a block ``policy`` of the scales that have it."""

from typing import Annotated, Literal

from pydantic import Field

from reproduction.consistency.policy_arms import REFERENCE
from reproduction.settings.types import Block, Count, Index, Positive, Several, Switch, differ
from reproduction.settings.validation import rule

__all__ = ["Policy"]

ArmName = Literal[
    "uniform", "uniform_single", "score", "tbc", "free_uniform", "free_ordered", "ordered"
]  # policy_arms.ARMS


class Policy(Block):
    """Consistency on P_B alone, of planar problems as 32 bits. A scale's problems are in the list ``policy_runs``."""

    seeds: Annotated[list[Index], Field(min_length=1)]
    arms: Annotated[list[ArmName], Field(min_length=2)]
    steps: Count
    batch: Count = Field(description="fresh data a step")
    times: Count = Field(description="states of a trajectory of each of them that train P_F, of 32")
    points: Count = Field(
        description="data a step whose whole trajectories train P_B, where it is learned, and P_F"
    )
    trajectories: Several = Field(description="M, trajectories of each of these")
    lr: Positive = Field(description="Adam's learning rate for P_F, which falls to 0 along a cosine")
    backward_lr: Positive = Field(description="the same for P_B")
    clip: Positive = Field(description="largest gradient norm, nats, of P_F and of P_B, each for itself")
    weight: Positive = Field(
        description="λ of TBC on P_B; ½ makes its mean gradient that of the bound, which `score` has"
    )
    sharpness: Positive = Field(
        description="from which `free_ordered` starts: between neighbours in the order of significance, nats"
    )
    hidden: Count = Field(description="width of P_F's network")
    layers: Count = Field(description="its hidden layers")
    decoded: Switch = Field(description="whether it sees the Gray digits as plain binary too, and speaks it")
    backward_hidden: Count = Field(description="width of P_B's network, with one hidden layer")
    test_points: Several = Field(description="of a seed; other seeds have others")
    importance_samples: Annotated[int, Field(ge=4, le=10**6, multiple_of=2, strict=True)] = Field(
        description="K, trajectories a test point for the NLL; even, for half of it shows the convergence"
    )
    mmd_points: Several = Field(description="samples, and as many data, behind the MMD")
    mmd_repeats: Several = Field(description="data-against-data estimates behind the floor of the MMD")

    @rule("arms")
    def reference_is_there(arms):
        if REFERENCE not in arms:
            return f"must have {REFERENCE}, the arm that all are compared with"
        return differ(arms)

    @rule("times")
    def times_fit(times):
        return None if times <= 32 else "must be at most 32, the steps of a trajectory"

    @rule("points", "batch")
    def points_are_of_the_batch(points, batch):
        return None if points <= batch else f"must be at most batch, {batch}"

    seeds_differ = rule("seeds")(differ)
