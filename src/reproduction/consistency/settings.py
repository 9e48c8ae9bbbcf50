"""The settings of the consistency experiment: one block of params.yaml for each scale that has it."""

from typing import Annotated

from pydantic import Field

from reproduction.consistency.noising_settings import Noising
from reproduction.consistency.policy_settings import Policy
from reproduction.settings.training import Noise, Optimizer, Variance
from reproduction.settings.types import Block, Count, Fraction, Index, Positive, Several, differ
from reproduction.settings.validation import rule

__all__ = ["Consistency"]

Weight = Annotated[float, Field(gt=-100, lt=100, allow_inf_nan=False, strict=True)]


class Diffusion(Noise):
    variance: Variance = Field(
        description="reverse variances; `analytic` is estimated once, after pretraining"
    )
    variance_samples: Count = Field(description="training points from which `analytic` is estimated")


class Pretraining(Block):
    steps: Count
    batch: Count = Field(description="independent states a step")
    optimizer: Optimizer


class Joint(Block):
    """Training on joint trajectories, by losses in nats of a whole point."""

    steps: Count
    points: Count = Field(description="points a step")
    warmup: Index = Field(description="steps over which the learning rate rises linearly")
    clip: Positive = Field(
        description="largest gradient norm, nats; a clipped mean is another one, so it should clip nothing"
    )
    ema_decay: Fraction


class Bound(Joint):
    """The bound, until it is converged."""

    rates: Annotated[list[Positive], Field(min_length=1)] = Field(
        description="learning rates, each for `steps` steps; they fall"
    )
    trajectories: Count = Field(description="joint trajectories a point")

    @rule("rates")
    def rates_fall(rates):
        return (
            None
            if all(a > b for a, b in zip(rates, rates[1:]))
            else "must fall, or the optimum is not approached"
        )


class Arms(Joint):
    """One arm, from the optimum of the bound."""

    lr: Positive


class Consistency(Block):
    """Signed λ: the problems of a scale are in the list ``signed_runs``; those of ``policy`` in ``policy_runs``, of
    ``noising`` in ``noising_runs``."""

    seeds: Annotated[list[Index], Field(min_length=1)]
    weights: Annotated[list[Weight], Field(min_length=3)] = Field(
        description="λ of the arms `bound`, nats⁻¹, on the unbiased variance: 0, the reference, and pairs ± λ"
    )
    groups: list[Several] = Field(description="K of the arms `iwae`; each divides `trajectories`")
    trajectories: Several = Field(description="M of a point in every arm")
    train_points: Count
    test_points: Several = Field(description="of a seed; other seeds have others")
    hidden: Count = Field(description="width of the perceptron")
    layers: Count = Field(description="its hidden layers")
    diffusion: Diffusion
    pretrain: Pretraining
    bound: Bound
    arms: Arms
    alignment_batches: Annotated[int, Field(ge=3, le=10**6, strict=True)] = Field(
        description="batches from which ∇N·∇V is estimated, each as large as that of an arm's step"
    )
    importance_samples: Several = Field(
        description="trajectories a point for the log-likelihood to begin with; even; doubled until precise"
    )
    importance_samples_cap: Several = Field(description="where the doubling ends at the latest")
    precision: Positive = Field(
        description="nats below which the NLL's standard error and its expected bias must fall"
    )
    policy: Policy | None = Field(
        default=None, description="which policy consistency trains, on bit strings; a scale may lack it"
    )
    noising: Noising | None = Field(default=None, description="learned rates of noising; a scale may lack it")

    @rule("weights")
    def weights_are_pairs(weights):
        if 0 not in weights:
            return "must have 0, the arm that all are compared with"
        if alone := [weight for weight in weights if -weight not in weights]:
            return f"must have {-alone[0]:g} beside {alone[0]:g}: what is odd in λ is told by both"
        return differ(weights)

    @rule("groups", "trajectories")
    def groups_divide(groups, trajectories):
        if wrong := [size for size in groups if trajectories % size]:
            return f"{wrong[0]} does not divide trajectories, {trajectories}"
        return differ(groups)

    @rule("importance_samples")
    def samples_are_even(samples):
        if samples < 4 or samples % 2:
            return (
                "must be even, for half of it shows the convergence, and at least 4, for the third cumulant"
            )

    @rule("importance_samples_cap", "importance_samples")
    def cap_is_above(cap, samples):
        if cap < samples:
            return f"must not be below importance_samples, {samples}"

    seeds_differ = rule("seeds")(differ)
