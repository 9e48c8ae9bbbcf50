"""The settings of the planar experiment: one block of params.yaml for each scale that has it."""

from typing import Annotated

from pydantic import Field

from reproduction.settings.training import (
    Arm,
    Chains,
    ConsistencyLoss,
    Diffusion,
    Optimizer,
    chain_fits,
)
from reproduction.settings.types import Block, Count, Index, Positive, Several, differ
from reproduction.settings.validation import rule

__all__ = ["Planar"]


class Consistency(ConsistencyLoss, Chains):
    """Trajectory-balance consistency (docs/math.md)."""


class Planar(Block):
    """The planar problems, Figure 2: a scale's problems are in the list ``planar_runs``."""

    seeds: Annotated[list[Index], Field(min_length=1)]
    arms: Annotated[list[Arm], Field(min_length=2)] = Field(
        description="`simple` (reported as ddpm), `vlb_tbc` (mle_gfn), and `vlb` as a control if wanted"
    )
    train_points: Count
    test_points: Count
    sample_points: Count
    hidden: Count = Field(description="width of the perceptron")
    layers: Count = Field(description="its hidden layers")
    diffusion: Diffusion
    pretrain_steps: Count
    finetune_steps: Count
    batch: Count = Field(description="independent states a step, in pretraining and fine-tuning")
    optimizer: Optimizer = Field(description="of pretraining")
    finetune_optimizer: Optimizer
    consistency: Consistency
    importance_samples: Several = Field(
        description="trajectories a point for the log-likelihood to begin with; even; doubled until precise"
    )
    importance_samples_cap: Several = Field(description="where the doubling ends at the latest")
    precision: Positive = Field(
        description="nats below which the NLL's standard error and its expected bias must fall"
    )
    mmd_points: Several
    mmd_repeats: Several = Field(description="data-against-data estimates behind the floor of the MMD")

    @rule("arms")
    def arms_differ(arms):
        return differ(arms) or (
            None
            if {"simple", "vlb_tbc"} <= set(arms) <= {"simple", "vlb", "vlb_tbc"}
            else "must be simple and vlb_tbc, which the figure compares, and vlb if wanted"
        )

    @rule("importance_samples")
    def samples_are_even(samples):
        return None if samples % 2 == 0 else "must be even: half of it shows the convergence"

    @rule("importance_samples_cap", "importance_samples")
    def cap_is_above(cap, samples):
        if cap < samples:
            return f"must not be below importance_samples, {samples}"

    @rule("mmd_points", "sample_points")
    def enough_samples(points, samples):
        if points > samples:
            return f"must be at most sample_points, {samples}"

    seeds_differ = rule("seeds")(differ)

    chain_fits = rule("consistency.chain_steps", "consistency.chain", "diffusion.timesteps")(chain_fits)
