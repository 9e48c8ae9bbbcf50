"""params.yaml as typed, validated settings. Nothing else reads params.yaml."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mlegfn import families
from mlegfn.divergence_settings import Divergences
from mlegfn.errors import UserError
from mlegfn.gallery.settings import Gallery
from mlegfn.setting import (
    Block,
    Count,
    Index,
    NonNegative,
    Positive,
    Several,
    Sha256,
    Switch,
    differ,
    rises,
)
from mlegfn.training_settings import Network, Noise, Optimizer
from mlegfn.validation import rule, validate
from mlegfn.yaml_file import origins, read_yaml

Precision = Literal["fp32", "tf32", "bf16"]
Variance = Literal["large", "small", "analytic", "learned"]
Arm = Literal["simple", "vlb", "tbc"]
Problem = Literal["2spirals", "8gaussians", "pinwheel", "circles", "moons", "swissroll", "checkerboard"]


def among(value, name, values):
    return None if value in values else f"must be one of {name}, {values}, not {value!r}"


def fits(chain_steps, chain, timesteps):
    if chain != "full" and chain_steps > timesteps:
        return f"must be at most diffusion.timesteps, {timesteps}"


def path_of_one_line(path):
    """A path ends up in messages, logs and graph.json, each of which is read line by line."""
    if path is not None and (not path.strip() or not path.isprintable() or len(path) > 1000):
        return "must be a path of printable characters, at most 1000 of them"


class Data(Block):
    source: Literal["digits", "cifar10", "archive"] = Field(description="where the images come from")
    path: str | None = Field(
        description="for `archive`: a folder, .zip or .tar.* with train/<class>/… and test/<class>/…"
    )
    train_limit: Count | None = Field(description="use only the first N training images; null = all")
    test_limit: Count | None = Field(description="use only the first N test images; null = all")
    flip: Switch = Field(description="random horizontal flips in training")
    per_batch: Count | None = Field(
        description="for `cifar10`: only the first N images of each of its six batches; null = all"
    )
    sha256_train: Sha256 | None = Field(
        description="of the training pixels [N, C, H, W] before train_limit; null = whatever they are"
    )
    sha256_test: Sha256 | None = Field(description="of the test pixels before test_limit")

    path_is_printable = rule("path")(path_of_one_line)

    @rule("path", "source")
    def archives_have_a_path(path, source):
        if source == "archive":
            return (
                None if path else "must name the images' folder or archive, because the source is `archive`"
            )
        return None if path is None else "is for the source `archive`; put null"

    @rule("per_batch", "source")
    def batches_are_of_cifar10(per_batch, source):
        if per_batch is not None and source != "cifar10":
            return "is for the source `cifar10`; put null"
        if per_batch is not None and per_batch > 10_000:
            return "must be at most 10000, the images of one batch"


class Diffusion(Noise):
    variance: Variance = Field(description="reverse variances: β_t, β̃_t, the analytic optimum, or learned")

    variance_samples: Count = Field(description="training data from which `analytic` is estimated")
    decoder: Literal["exact", "tanh"] = Field(
        description="the normal CDF of the discretised decoder (images only)"
    )


class Pretrain(Block):
    seed: Index
    checkpoints: Annotated[list[Count], Field(min_length=1)] = Field(
        description="steps from which fine-tuning starts"
    )
    stop: Count = Field(description="the baseline's last step")
    batch: Count
    optimizer: Optimizer

    @rule("checkpoints")
    def steps_rise(checkpoints):
        return rises(checkpoints)

    @rule("stop", "checkpoints")
    def stops_last(stop, checkpoints):
        if stop <= max(checkpoints):
            return f"must be after the last checkpoint, {max(checkpoints)}"

    @property
    def segments(self):
        """Every step at which the baseline is saved, the last one included."""
        return [*self.checkpoints, self.stop]


class Consistency(Block):
    """Trajectory-balance consistency, DESIGN §4."""

    weight: NonNegative = Field(
        description="λ on the unbiased variance over trajectories (half of λ on the paper's pairwise square)"
    )
    weight_warmup: Index = Field(description="steps over which λ rises linearly from 0")
    trajectories: Several = Field(description="M, joint trajectories an image")
    images: Count = Field(description="images a step whose trajectories are drawn")
    chain: Literal["full", "respaced", "subtrajectory"] = Field(description="which chain the balance is over")
    chain_steps: Count = Field(description="S of `respaced`, t − s of `subtrajectory`; `full` takes all T")
    gradient: Literal["exact", "subsampled"] = Field(
        description="through every step, or through gradient_steps of them weighted T/K"
    )
    gradient_steps: Count = Field(description="K of `subsampled`")
    chunk: Count = Field(description="states evaluated at once; memory is proportional to it")
    policy: Literal["forward"] = Field(
        description="which policy the term trains; fixed noising leaves only `forward`"
    )
    loss: Literal["square", "huber"]
    huber_delta: Positive = Field(
        description="where `huber` turns linear, nats (after the division by dimension)"
    )
    per_dimension: Switch = Field(description="divide log w by the data's dimension first")


class Finetune(Block):
    seeds: Annotated[list[Index], Field(min_length=1)]
    arms: Annotated[list[Arm], Field(min_length=1)]
    steps: Count
    evaluate_at: Annotated[list[Count], Field(min_length=1)] = Field(
        description="fine-tuning steps at which NLL is measured"
    )
    batch: Count = Field(description="images a step for L_simple; every arm sees the same")
    optimizer: Optimizer
    anchor: Literal["simple", "vlb"] = Field(
        description="the likelihood term beside TBC in the arm `tbc`: L_simple or the bound itself"
    )
    consistency: Consistency

    seeds_differ = rule("seeds")(differ)
    arms_differ = rule("arms")(differ)

    @rule("evaluate_at")
    def points_rise(evaluate_at):
        return rises(evaluate_at)

    @rule("steps", "evaluate_at")
    def reaches_the_points(steps, evaluate_at):
        if steps < max(evaluate_at):
            return f"must reach the last entry of evaluate_at, {max(evaluate_at)}"


class Nll(Block):
    seed: Index
    batch: Count = Field(description="states evaluated at once")
    estimator: Literal["full", "stratified"] = Field(
        description="the sum over every t, or an unbiased one over few t an image"
    )
    evaluations: Several = Field(description="network evaluations an image, on average, of `stratified`")


class Quality(Block):
    """Numbers about samples, beside the likelihood."""

    seed: Index
    samples: Several = Field(description="samples drawn from each model, compared with as many test images")
    projections: Count = Field(description="random directions of the sliced Wasserstein distance")
    inception: str | None = Field(
        description="file of torch-fidelity's Inception weights, for FID and IS; null = not measured"
    )

    inception_is_printable = rule("inception")(path_of_one_line)


class Engine(Block):
    """How the network is computed: what is fastest on the hardware, and how exactly."""

    precision: Precision = Field(
        description="of the network in training: bf16 is autocast, weights and losses stay fp32"
    )
    evaluation: Precision = Field(description="the same for NLL, variances and samples")
    channels_last: Switch = Field(description="memory layout of images and weights")
    compile: Literal["none", "regional", "full"] = Field(
        description="torch.compile of each block, of the whole network, or not; on a GPU only"
    )
    cuda_graphs: Switch = Field(description="replay compiled regions as CUDA graphs")
    deterministic: Switch = Field(description="bit-equal resumption on a GPU too, at some cost")
    save_every_minutes: Positive = Field(description="how much work an interruption may cost")
    # No stage depends on it, so that a run may be watched, or no longer, without anything becoming stale.
    live: Literal["tensorboard"] | None = Field(
        default=None,
        description="curves of a training while it runs, under results/<scale>/logs; null = none",
    )


class Trajectories(Block):
    seed: Index
    checkpoint: Count = Field(description="the fine-tune that Figure 3 samples from")
    arm: Arm
    finetune_seed: Index
    shown: Count = Field(description="trajectories on the left of Figure 3")
    columns: Several = Field(description="times shown of each trajectory")
    samples: Count = Field(description="samples on the sheet at the right")


class Planar(Block):
    problems: list[Problem]
    seeds: Annotated[list[Index], Field(min_length=1)]
    arms: Annotated[list[Arm], Field(min_length=2)] = Field(
        description="`simple` (reported as ddpm) and `tbc` (mle_gfn), and `vlb` as a control if wanted"
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
    anchor: Literal["simple", "vlb"]
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
            if {"simple", "tbc"} <= set(arms)
            else "must include simple and tbc, which the figure compares"
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

    problems_differ = rule("problems")(differ)
    seeds_differ = rule("seeds")(differ)

    @rule("consistency.chain_steps", "consistency.chain", "diffusion.timesteps")
    def chain_fits(chain_steps, chain, timesteps):
        return fits(chain_steps, chain, timesteps)


class FamilySettings(Block):
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

    include: Annotated[list[str], Field(min_length=1)] | None = Field(
        description="names of files in src/mlegfn/families; null = all of them"
    )
    seeds: Annotated[list[Index], Field(min_length=1)]
    default: FamilySettings = Field(description="for every family that `settings` does not name")
    settings: dict[str, FamilySettings]

    seeds_differ = rule("seeds")(differ)

    @rule("include")
    def included_exist(include):
        return None if include is None else differ(include) or unknown_family(include)

    @rule("settings")
    def named_exist(settings):
        return unknown_family(settings)

    @property
    def names(self):
        return families.names() if self.include is None else self.include

    def of(self, name):
        """The settings of one family."""
        return self.settings.get(name, self.default)


def unknown_family(named):
    for name in named:
        if name not in families.names():
            return f"no family {name!r}; there are {', '.join(families.names())}"


DiscreteArm = Literal["random", "random_tbc", "learned", "learned_tbc", "ordered"]


class Discrete(Block):
    """MLE-GFN on the planar problems as 32 Gray-coded bits, the setup of EB-GFN."""

    problems: Annotated[list[Problem], Field(min_length=1)]
    seeds: Annotated[list[Index], Field(min_length=1)]
    arms: Annotated[list[DiscreteArm], Field(min_length=1)] = Field(
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

    problems_differ = rule("problems")(differ)
    seeds_differ = rule("seeds")(differ)
    arms_differ = rule("arms")(differ)


# The blocks of the image experiment: a scale has all of them or none.
IMAGES = ("engine", "data", "network", "diffusion", "pretrain", "finetune", "nll", "trajectories", "quality")
EXPERIMENTS = ("planar", "families", "discrete", "divergences", "gallery")  # each may be there or not


STAGES = 10_000  # fine-tunings of a scale; DVC and Snakemake take a minute for a thousand stages


class Scale(Block):
    accelerator: Literal["cpu", "gpu"] = Field(
        description="`gpu`: refuse to start where there is none, unless --allow-cpu"
    )
    engine: Engine | None = None
    data: Data | None = None
    network: Network | None = None
    diffusion: Diffusion | None = None
    pretrain: Pretrain | None = None
    finetune: Finetune | None = None
    nll: Nll | None = None
    trajectories: Trajectories | None = None
    quality: Quality | None = None
    planar: Planar | None = None
    families: Families | None = None
    discrete: Discrete | None = None
    divergences: Divergences | None = None
    gallery: Gallery | None = None

    @rule(".")
    def images_come_together(blocks):
        there = [name for name in IMAGES if blocks.get(name) is not None]
        if there == ["data"] and blocks.get("gallery"):  # the gallery has networks of its own
            return None
        if absent := [name for name in IMAGES if name not in there]:
            if there:
                return f"has {', '.join(there)} but no {', '.join(absent)}: the image experiment needs all of them"
            if not any(blocks.get(name) for name in EXPERIMENTS):
                return f"has nothing to run; give the blocks of the images, or {', '.join(EXPERIMENTS)}"

    @property
    def has_images(self):
        """Whether the scale has the image experiment: pretraining, fine-tuning, NLL, Figures 1 and 3."""
        return self.pretrain is not None

    @rule("trajectories.checkpoint", "pretrain.checkpoints")
    def checkpoint_exists(checkpoint, checkpoints):
        return among(checkpoint, "pretrain.checkpoints", checkpoints)

    @rule("trajectories.arm", "finetune.arms")
    def arm_exists(arm, arms):
        return among(arm, "finetune.arms", arms)

    @rule("trajectories.finetune_seed", "finetune.seeds")
    def seed_exists(seed, seeds):
        return among(seed, "finetune.seeds", seeds)

    @rule("finetune.seeds", "finetune.arms", "pretrain.checkpoints")
    def stages_can_be_counted(seeds, arms, checkpoints):
        count = len(seeds) * len(arms) * len(checkpoints)
        if count > STAGES:
            return f"asks for {count} fine-tunings (seeds × arms × checkpoints); at most {STAGES}"

    @rule("trajectories.columns", "diffusion.timesteps")
    def columns_fit(columns, timesteps):
        if columns > timesteps + 1:
            return f"must be at most diffusion.timesteps + 1, {timesteps + 1}"

    @rule("finetune.consistency.chain_steps", "finetune.consistency.chain", "diffusion.timesteps")
    def chain_fits(chain_steps, chain, timesteps):
        return fits(chain_steps, chain, timesteps)

    @rule("nll.evaluations", "nll.estimator", "diffusion.timesteps")
    def evaluations_fit(evaluations, estimator, timesteps):
        if estimator == "stratified" and evaluations > timesteps:
            return f"must be at most diffusion.timesteps, {timesteps}"


class Params(Block):
    scales: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")], Scale], Field(min_length=1)
    ]

    def scale(self, name):
        """The scale ``name``; an unknown one is a UserError that lists those there are."""
        if name not in self.scales:
            raise UserError(f"params.yaml: scales: no scale {name!r}; there are {', '.join(self.scales)}")
        return self.scales[name]


def load(path="params.yaml"):
    """The settings of ``path``; every mistake at once in one UserError, one line for each broken key."""
    return validate(Params, read_yaml(path), path, lambda: origins(path))


def fingerprint(block):
    """Hex SHA-256 of a settings block (or any JSON value): equal settings, equal fingerprint."""
    value = block.model_dump(mode="json") if isinstance(block, BaseModel) else block
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
