"""Settings of the stations on images."""

from typing import Annotated, Literal

from pydantic import Field

from reproduction.settings.training import Network, Noise, Optimizer
from reproduction.settings.types import Block, Count, Fraction, Index, Several, differ
from reproduction.settings.validation import rule

Part = Annotated[float, Field(gt=0, le=1, strict=True)]
Seeds = Annotated[list[Index], Field(min_length=1)]
Weight = Annotated[float, Field(ge=-1, le=1000, strict=True)]


def several(values):
    """Each entry once, and at least two of them: their differences are measured, and the spread of seeds."""
    return "needs at least two entries" if len(values) < 2 else differ(values)


class Chain(Noise):
    """The noising process and the network of a station on images."""

    network: Network


class Algorithms(Chain):
    seed: Index
    steps: Count = Field(description="of training")
    batch: Count
    optimizer: Optimizer
    samples: Several = Field(description="drawn with Algorithm 2, and compared with as many test images")
    parts: Several = Field(
        description="of the samples, over which the error of a ratio of distances is taken"
    )
    projections: Count = Field(description="random directions of the sliced Wasserstein distance")

    @rule("parts", "samples")
    def parts_have_images(parts, samples):
        if parts > samples:
            return f"must be at most samples, {samples}"


class Progressive(Block):
    seed: Index
    samples: Several = Field(description="generated, and looked at on the way")
    times: Several = Field(description="times at which they are looked at")
    images: Several = Field(description="test images whose rate and distortion are measured")


class Shared(Block):
    seeds: Seeds
    sampling_steps: Several = Field(description="of the shortened chain that samples")
    fractions: Annotated[list[Part], Field(min_length=1)] = Field(description="t/T of the shared x_t")
    starts: Count = Field(description="x_t of each seed and t")
    siblings: Several = Field(description="samples that share one x_t")
    pairs: Count = Field(description="pairs of test images of each seed that are interpolated")
    mixtures: Several = Field(description="λ from 0 to 1 of an interpolation")

    seeds_differ = rule("seeds")(several)

    @rule("fractions")
    def fractions_fall(fractions):
        if len(fractions) < 2 or any(a <= b for a, b in zip(fractions, fractions[1:])):
            return "must be at least two that fall from entry to entry"

    @rule("fractions", "sampling_steps")
    def fractions_are_steps(fractions, steps):
        times = [round(fraction * steps) for fraction in fractions]
        if min(times) < 1 or len(set(times)) < len(times):
            return f"must be different steps of the {steps} of sampling_steps, each at least 1"


class Inpainting(Block):
    seeds: Seeds
    images: Several = Field(description="test images that are filled")
    known: Annotated[list[Literal["three_quarters", "half", "quarter"]], Field(min_length=1)] = Field(
        description="what is kept: all but the lower right quarter, the left half, the upper left quarter"
    )
    sampling_steps: Several = Field(description="of the shortened chain that fills")
    jump: Count = Field(description="steps that a resampling goes back (RePaint's j)")
    resamplings: Several = Field(description="times that each stretch is sampled (RePaint's r)")
    projections: Count = Field(description="random directions of the sliced Wasserstein distance")
    correlation: Fraction = Field(description="of the Gaussian in the plane whose first coordinate is known")
    points: Several = Field(description="samples of that Gaussian's second coordinate")
    gaussian_resamplings: Annotated[list[Count], Field(min_length=1)] = Field(
        description="r's there; 1 is replacement alone"
    )

    seeds_differ, known_differ = rule("seeds")(several), rule("known")(differ)

    @rule("gaussian_resamplings")
    def gaussian_starts_with_replacement(resamplings):
        if len(resamplings) < 2 or resamplings[0] != 1 or resamplings != sorted(set(resamplings)):
            return "must rise from 1, replacement alone, to at least one more"

    @rule("jump", "sampling_steps")
    def jump_fits(jump, steps):
        if jump >= steps:
            return f"must be less than sampling_steps, {steps}"


class Guidance(Chain):
    seed: Index = Field(description="of training")
    steps: Count = Field(description="of training")
    batch: Count
    optimizer: Optimizer
    label_dropout: Fraction = Field(description="probability that a label is hidden in training")
    seeds: Seeds = Field(description="of sampling")
    weights: Annotated[list[Weight], Field(min_length=1)] = Field(
        description="w: −1 is the unconditional model, 0 the conditional one, > 0 extrapolates"
    )
    per_class: Several = Field(description="samples of each class, seed and w")
    sampling_steps: Several = Field(description="of the shortened chain that samples")
    projections: Count = Field(description="random directions of the sliced Wasserstein distance")

    seeds_differ, weights_differ = rule("seeds")(several), rule("weights")(differ)

    @rule("weights")
    def weights_have_both_ends(weights):
        if not {-1.0, 0.0} <= set(weights):
            return "must hold −1 and 0, the models that the others are compared with"

    @rule("sampling_steps", "timesteps")
    def steps_fit(steps, timesteps):
        if steps > timesteps:
            return f"must be at most timesteps, {timesteps}"
