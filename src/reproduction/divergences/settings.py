"""Settings of the divergence experiments (arXiv 2410.09355): one block a task, the same for all of its objectives."""

from typing import Annotated, Literal

from pydantic import Field

from reproduction.settings.types import Block, Count, Fraction, Index, Positive, Several, differ, rises
from reproduction.settings.validation import rule

# The names of mlegfn.gflownet.losses, which is not imported here because torch takes seconds.
Objective = Literal[
    "trajectory_balance",
    "log_variance",
    "detailed_balance",
    "sub_trajectory_balance",
    "flow_matching",
    "reverse_kl",
    "forward_kl",
    "renyi",
    "tsallis",
    "f_forward_kl",
    "f_tsallis",
]
OnPolicy = Literal["reverse_kl", "forward_kl", "renyi", "tsallis"]
ON_POLICY = OnPolicy.__args__
Task = Literal["hypergrid", "sets", "sequences", "phylogeny", "phylogeny_mlp", "mixture", "banana"]
ControlVariate = Literal["none", "leave_one_out", "score", "both", "score_signed", "both_signed", "combined"]
Finite = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False, strict=True)]


def no_limit(alpha):
    if alpha == 1:
        return "must not be 1: that is the KL divergence; use reverse_kl or forward_kl"
    if alpha == 0:
        return "must not be 0: the divergence is zero everywhere there; its limit is forward_kl"


def off_policy(share, objectives):
    refused = [name for name in objectives if name in ON_POLICY]
    if share and refused:
        return f"must be 0, because {', '.join(refused)} are expectations over the policy's own trajectories"


def even(cells):
    """Half of the cells shows how far the quadrature has converged."""
    return None if cells % 2 == 0 else "must be even"


class Training(Block):
    """What every task has: the same settings for all of its objectives."""

    objectives: Annotated[list[Objective], Field(min_length=1)]
    seeds: Annotated[list[Index], Field(min_length=1)]
    steps: Count
    batch: Several = Field(description="trajectories a step")
    lr: Positive = Field(description="Adam's learning rate, which falls linearly to 0")
    log_z_lr: Positive = Field(description="that of log Z, where one is learned")
    hidden: Count = Field(description="width of the policy's two hidden layers")
    alpha: Finite = Field(description="of Rényi's and Tsallis' divergences")
    control_variate: ControlVariate = Field(description="of the divergences' gradients")
    exploration: Fraction = Field(
        description="share of uniform actions while training; 0 for objectives that are valid on-policy only"
    )
    replay: Fraction = Field(description="share of a batch that is drawn from a replay buffer; 0 likewise")
    capacity: Count = Field(description="objects that the replay buffer holds")
    evaluations: Count = Field(description="points of the learning curve after the first")
    samples: Several = Field(
        description="Monte-Carlo samples of the metric as the paper takes it, and of its floor"
    )

    objectives_differ = rule("objectives")(differ)
    seeds_differ = rule("seeds")(differ)
    alpha_is_no_limit = rule("alpha")(no_limit)
    exploration_is_valid = rule("exploration", "objectives")(off_policy)
    replay_is_valid = rule("replay", "objectives")(off_policy)

    @rule("evaluations", "steps")
    def evaluations_fit(evaluations, steps):
        return None if evaluations <= steps else f"must be at most steps, {steps}"


class Hypergrid(Training):
    dimensions: Count
    side: Several
    r0: Positive = Field(description="R_0, the reward between the modes")


class Sets(Training):
    elements: Annotated[int, Field(ge=1, le=62, strict=True)] = Field(description="|D|")
    size: Count = Field(description="N")
    points: Several = Field(
        description="where there are too many to list: sets at which p_θ is computed exactly; four times as many last"
    )

    @rule("size", "elements")
    def sets_fit(size, elements):
        return None if size <= elements else f"must be at most elements, {elements}"


class Sequences(Training):
    alphabet: Count = Field(description="|D|")
    longest: Count = Field(description="N")


class Phylogeny(Training):
    species: Annotated[int, Field(ge=2, le=8, strict=True)]
    sites: Count = Field(description="nucleotides of each species")
    branch: Positive = Field(description="length of every branch, substitutions a site")


class Continuous(Training):
    components: Count = Field(description="Gaussians of each step's mixture")
    spread: Positive = Field(description="their means lie evenly on ± this before training")
    cells: Several = Field(description="of the quadrature, along each axis")
    bins: Several = Field(description="of the histogram of Monte-Carlo samples, along each axis")

    @rule("cells")
    def cells_are_even(cells):
        return even(cells)

    @rule("objectives")
    def actions_are_no_list(objectives):
        if "flow_matching" in objectives:
            return "flow_matching sums over actions, of which a continuous policy has no list"


class Tasks(Block):
    """The tasks of a scale; one that is not named is not run."""

    hypergrid: Hypergrid | None = None
    sets: Sets | None = None
    sequences: Sequences | None = None
    phylogeny: Phylogeny | None = Field(None, description="by a GIN, as the paper")
    phylogeny_mlp: Phylogeny | None = Field(None, description="the same target by the perceptron")
    mixture: Continuous | None = None
    banana: Continuous | None = None

    def listed(self):
        """{name: settings} of the tasks that the scale runs, in the order of this class."""
        return {name: task for name in type(self).model_fields if (task := getattr(self, name)) is not None}


class Gradients(Block):
    """The covariance of the gradient's estimate at one policy of a task, by batch size and control variate."""

    objectives: Annotated[list[OnPolicy], Field(min_length=1)]
    control_variates: Annotated[list[ControlVariate], Field(min_length=1)]
    batches: Annotated[list[Several], Field(min_length=1)]
    repeats: Several = Field(description="batches of each size")
    trained_steps: Index = Field(description="steps of trajectory balance that the policy has behind it")

    objectives_differ = rule("objectives")(differ)
    variates_differ = rule("control_variates")(differ)

    @rule("batches")
    def batches_rise(batches):
        return rises(batches)


class Alpha(Block):
    """What α does to a policy that cannot fit: one Gaussian a coordinate, on the mixture of nine."""

    alphas: Annotated[list[Finite], Field(min_length=1)]
    objective: Literal["tsallis", "renyi"]
    seeds: Annotated[list[Index], Field(min_length=1)]
    steps: Count
    batch: Several
    lr: Positive
    spread: Positive = Field(description="standard deviation of the policy before training")
    cells: Several

    @rule("cells")
    def cells_are_even(cells):
        return even(cells)

    @rule("alphas")
    def alphas_are_no_limits(alphas):
        return differ(alphas) or next(filter(None, map(no_limit, alphas)), None)

    seeds_differ = rule("seeds")(differ)


class Divergences(Block):
    """Training GFlowNets with divergences: the second paper's tasks, gradients and α."""

    tasks: Tasks
    gradients: Annotated[dict[Task, Gradients], Field(min_length=1)] = Field(
        description="by task, whose other settings are those in `tasks`"
    )
    alpha: Alpha

    @rule("tasks")
    def at_least_one_task(tasks):
        return None if any(tasks.values()) else f"must have one of {', '.join(Tasks.model_fields)}"

    @rule("gradients", "tasks")
    def tasks_are_listed(gradients, tasks):
        for name in gradients:
            if tasks.get(name) is None:
                return f"{name}: no such task in `tasks`"
