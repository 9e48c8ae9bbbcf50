"""The settings of the part *learned noising*: a block ``noising`` of the scales that have it."""

from typing import Annotated, Literal

from pydantic import Field

from reproduction.consistency.noising_arms import REFERENCE
from reproduction.settings.training import LinearNoise
from reproduction.settings.types import Block, Count, Index, Positive, Several, differ
from reproduction.settings.validation import rule

__all__ = ["IMAGES", "Noising", "NoisingRun"]

ArmName = Literal["fixed", "pathwise", "score", "tbc"]  # noising_arms.ARMS
IMAGES = "digits"  # the problem that is made of images; all others are points in the plane


class NoisingRun(Block):
    """How one kind of data is modelled, trained and measured."""

    hidden: Count = Field(
        description="width of the perceptron; of images: channels of the U-Net, then twice as many"
    )
    batch: Count = Field(description="data a step")
    trajectories: Several = Field(description="M, joint trajectories of each in every arm")
    pretrain_steps: Count = Field(description="of P_F alone, before the arms part")
    steps: Count
    lr: Positive = Field(description="Adam's learning rate for P_F, which falls to 0 along a cosine")
    backward_lr: Positive = Field(description="the same for the rates of P_B")
    clip: Positive = Field(description="largest gradient norm, nats, of P_F and of P_B, each for itself")
    gradient_batches: Annotated[int, Field(ge=3, le=10**6, strict=True)] = Field(
        description="from which the noise of each estimator is measured, before the arms part"
    )
    test_points: Several = Field(
        description="of a seed; other seeds have others, of images the same ones dequantised anew"
    )
    importance_samples: Annotated[int, Field(ge=4, le=10**6, multiple_of=2, strict=True)] = Field(
        description="K, trajectories a test point for the NLL"
    )


class Noising(Block):
    """Rates of noising learned by the bound and by TBC. A scale's problems are in the list ``noising_runs``."""

    seeds: Annotated[list[Index], Field(min_length=1)]
    arms: Annotated[list[ArmName], Field(min_length=2)]
    diffusion: LinearNoise = Field(description="the fixed schedule, whose ends every arm keeps")
    train_points: Count
    points: NoisingRun
    images: NoisingRun | None = Field(
        description="of the problem `digits`; null = the scale does not have it"
    )

    @rule("arms")
    def reference_is_there(arms):
        if REFERENCE not in arms:
            return f"must have {REFERENCE}, the arm that all are compared with"
        return differ(arms)

    seeds_differ = rule("seeds")(differ)

    def of(self, problem):
        """The ``NoisingRun`` of a problem."""
        return self.images if problem == IMAGES else self.points
