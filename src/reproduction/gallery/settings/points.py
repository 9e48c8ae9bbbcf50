"""Settings of the stations in the plane."""

from typing import Annotated, Literal

from pydantic import Field

from reproduction.settings.training import LinearNoise, Network, Noise, Optimizer
from reproduction.settings.types import Beta, Block, Count, Index, Several, differ
from reproduction.settings.validation import rule

Problem = Literal["2spirals", "8gaussians", "pinwheel", "circles", "moons", "swissroll", "checkerboard"]


class Forward(LinearNoise):
    seed: Index
    problems: Annotated[list[Problem], Field(min_length=1)] = Field(
        description="where the points start; the scale's images are another start"
    )
    schedules: Annotated[list[Literal["linear", "cosine"]], Field(min_length=1)]
    points: Several = Field(
        description="data of each start: the centres of the exact mixture x_t is drawn from"
    )
    samples: Several = Field(description="x_t drawn at each time for entropy and distance")
    paths: Several = Field(description="simulated paths of one datum, against the closed form")
    times: Several = Field(description="times at which entropy and distance are measured")

    problems_differ = rule("problems")(differ)
    schedules_differ = rule("schedules")(differ)

    @rule("times", "timesteps")
    def times_fit(times, timesteps):
        if times > timesteps:
            return f"must be at most timesteps, {timesteps}"


class Spiral(Noise):
    seeds: Annotated[list[Index], Field(min_length=1)] = Field(description="the first one's model is drawn")
    hidden: Count = Field(description="width of the perceptron")
    layers: Count = Field(description="its hidden layers, beside the first")
    steps: Count = Field(description="of training")
    batch: Count = Field(description="points of a step, drawn anew")
    optimizer: Optimizer
    samples: Several = Field(description="of each seed, compared with as many fresh data")
    repeats: Several = Field(description="data against data, for the floor")
    points: Count = Field(description="drawn")
    columns: Several = Field(description="times of the figure")
    frames: Several = Field(description="times of the animation")
    grid: Several = Field(description="points a side at which the field is drawn")

    seeds_differ = rule("seeds")(differ)

    @rule("columns", "timesteps")
    def columns_fit(columns, timesteps):
        if columns > timesteps:
            return f"must be at most timesteps, {timesteps}"


class SchedulePoints(Block):
    problem: Problem
    hidden: Count = Field(description="width of the perceptron")
    layers: Count = Field(description="its hidden layers, beside the first")
    steps: Count = Field(description="of training, for each schedule")
    batch: Count = Field(
        description="points of a step, drawn anew; a multiple of T sees every t equally often"
    )
    optimizer: Optimizer
    test: Several = Field(description="points the bound is measured on")


class ScheduleImages(Block):
    network: Network
    steps: Count = Field(description="of training, for each schedule")
    batch: Count = Field(description="images of a step")
    optimizer: Optimizer
    test: Several = Field(description="test images the bound is measured on, or all there are")


class Schedules(LinearNoise):
    seeds: Annotated[list[Index], Field(min_length=1)]
    timesteps: Several = Field(description="T: few, or the bound hardly depends on the schedule")
    beta_end: Beta = Field(description="β_T of the linear schedule; the learned one starts with its ends")
    units: Count = Field(description="width of the monotone network")
    points: SchedulePoints
    images: ScheduleImages

    seeds_differ = rule("seeds")(differ)
