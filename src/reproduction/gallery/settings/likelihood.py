"""Settings of the stations on likelihoods and samplers."""

from typing import Annotated, Literal

from pydantic import Field

from reproduction.gallery.settings.images import Chain
from reproduction.settings.training import LinearNoise, Optimizer
from reproduction.settings.types import Block, Count, Index, Positive, Several, differ, rises
from reproduction.settings.validation import rule

Seeds = Annotated[list[Index], Field(min_length=1)]


class Objectives(Chain):
    seeds: Seeds = Field(description="each trains every objective once, on equal data and noise")
    steps: Count = Field(description="of each training")
    batch: Count
    optimizer: Optimizer
    variance_images: Count = Field(description="training images that the analytic variances are measured on")
    test_images: Several = Field(description="test images whose bound is computed")
    samples: Several = Field(description="drawn from each model, and compared with as many test images")
    projections: Count = Field(description="random directions of the sliced Wasserstein distance")

    seeds_differ = rule("seeds")(differ)


class Annealed(Block):
    """How log p(x_0) is annealed."""

    temperatures: Annotated[list[Count], Field(min_length=1)] = Field(
        description="numbers K of inverse temperatures 1/K, 2/K, …, 1, each an estimate of its own"
    )
    chains: Count = Field(description="annealings of each datum, whose estimates of log p are averaged")
    leapfrogs: Count = Field(description="steps of a transition of Hamiltonian Monte Carlo")
    step: Positive = Field(description="their size: the angle by which noise and momentum turn, in radians")

    temperatures_rise = rule("temperatures")(rises)


class AnnealedPoints(Annealed, LinearNoise):
    data: Several = Field(description="points whose log p is estimated")
    variance_points: Several = Field(description="that the analytic variances are measured on")
    repeats: Several = Field(description="annealings of each point of the linear-Gaussian check")
    side: Positive = Field(description="half of the side of the grid of the numerical integration")
    grid: Several = Field(description="its points along an axis")


class AnnealedImages(Annealed):
    timesteps: Several = Field(description="T of the respaced chain")
    data: Several = Field(description="test images whose log p is estimated")
    variance_images: Count = Field(description="training images that the analytic variances are measured on")


class Annealing(Block):
    seed: Index
    points: AnnealedPoints
    images: AnnealedImages


class Samplers(Block):
    seeds: Annotated[list[Index], Field(min_length=2)] = Field(description="of sampling; the network is one")
    solvers: Annotated[list[Literal["ancestral", "ddim_1", "ddim", "dpm", "heun"]], Field(min_length=1)]
    evaluations: Annotated[list[Several], Field(min_length=1)] = Field(
        description="of the network a sample; each divides its T. The ancestral chain has all T steps besides"
    )
    samples: Several = Field(description="drawn with each, and compared with as many test images")
    projections: Count = Field(description="random directions of the sliced Wasserstein distance")
    tolerance: Positive = Field(description="of the ODE's solver, relative and absolute")
    images: Several = Field(
        description="test images whose likelihood the ODE gives, by Hutchinson's estimate"
    )
    variance_images: Count = Field(description="training images that the analytic variances are measured on")
    probes: Count = Field(description="random directions of Hutchinson's estimate, an image")
    exact_images: Several = Field(description="of these, with the exact divergence too")

    solvers_differ = rule("solvers")(differ)
    evaluations_rise = rule("evaluations")(rises)

    @rule("exact_images", "images")
    def exact_images_are_among_them(exact, images):
        if exact > images:
            return f"must be at most images, {images}"
