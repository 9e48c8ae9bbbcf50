"""A scale's block ``images`` in params.yaml: data, network, training, likelihood, samples."""

import itertools
import math
import os
from typing import Annotated, Literal, get_args

from pydantic import Field

from reproduction.settings.training import (
    Arm,
    Chains,
    ConsistencyOptions,
    Diffusion,
    Network,
    Optimizer,
    chain_fits,
)
from reproduction.settings.types import (
    Block,
    Count,
    Fraction,
    Index,
    NonNegative,
    Positive,
    Several,
    Sha256,
    Switch,
    differ,
    rises,
)
from reproduction.settings.validation import rule

__all__ = ["ArmSettings", "Images"]

Precision = Literal["fp32", "tf32", "bf16"]
FINETUNES = 10_000  # of a scale; each is a folder, and a part that its stage hashes


def among(value, name, values):
    return None if value in values else f"must be one of {name}, {values}, not {value!r}"


def path_given(path):
    """The check of a path that a user gives; null is none.

    It ends up in messages and logs, which are read line by line. What it names must not lie where the pipeline writes,
    nor around it: a stage would depend on its own outputs.
    """
    if path is None:
        return None
    if not path.strip() or not path.isprintable() or len(path) > 1000:
        return "must be a path of printable characters, at most 1000 of them"
    given = os.path.realpath(os.path.expanduser(path))
    for folder in ("results", "data"):
        written = os.path.realpath(folder)
        if os.path.commonpath([given, written]) in (given, written):
            return f"overlaps with {folder}/, which the pipeline writes; put what you bring elsewhere"


class Machine(Block):
    """Where and how the stages run. No artifact depends on it."""

    accelerator: Literal["cpu", "gpu"] = Field(
        description="`gpu`: refuse to start where there is none, unless --allow-cpu"
    )
    save_every_minutes: Positive = Field(description="how much work an interruption may cost")
    live: Literal["tensorboard"] | None = Field(
        description="curves of a training while it runs, under results/<scale>/logs; null = none"
    )


class Compute(Block):
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


class Data(Block):
    source: Literal["digits", "cifar10", "archive"] = Field(description="where the images come from")
    path: str | None = Field(
        description="for `archive`: a folder, .zip or .tar.* with train/<class>/… and test/<class>/…"
    )
    train_limit: Count | None = Field(description="use only the first N training images; null = all")
    test_limit: Count | None = Field(description="use only the first N test images; null = all")
    validation: Several = Field(
        description="training images that no model is trained on: the arms' settings are chosen on them"
    )
    flip: Switch = Field(description="random horizontal flips in training")
    per_batch: Count | None = Field(
        description="for `cifar10`: only the first N images of each of its six batches; null = all"
    )
    sha256_train: Sha256 | None = Field(
        description="of the training pixels [N, C, H, W] before train_limit; null = whatever they are"
    )
    sha256_test: Sha256 | None = Field(description="of the test pixels before test_limit")

    path_can_be_read = rule("path")(path_given)

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


class Pretrain(Block):
    seeds: Annotated[list[Index], Field(min_length=1)] = Field(
        description="each is a baseline of its own, with its own fine-tunes"
    )
    checkpoints: Annotated[list[Count], Field(min_length=1)] = Field(
        description="steps from which fine-tuning starts"
    )
    stop: Count = Field(description="the baseline's last step")
    batch: Count
    optimizer: Optimizer

    seeds_differ = rule("seeds")(differ)

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


class FinetuneOptimizer(Block):
    """Adam of every arm, with fresh moments; its rate and warm-up are chosen for each arm."""

    clip: Positive = Field(description="largest gradient norm; meant to clip no step: metrics count them")
    ema_decay: Fraction


class Search(Block):
    """Where an arm's settings are chosen: on validation images, with the seed and the checkpoint of one baseline."""

    checkpoint: Count
    seed: Index


class EveryArm(Block):
    """What the arms have in common: equal images, noise, steps and network evaluations."""

    evaluate_at: Annotated[list[Count], Field(min_length=1)] = Field(
        description="fine-tuning steps at which NLL is measured; the last one ends the training"
    )
    batch: Count = Field(description="independent images a step, of the likelihood term")
    optimizer: FinetuneOptimizer
    consistency: Chains = Field(description="every arm spends the network evaluations of these chains")
    search: Search

    @rule("evaluate_at")
    def points_rise(evaluate_at):
        return rises(evaluate_at)


class Plain(Block):
    """The settings tried of an arm: every combination. All arms try equally many."""

    lr: Annotated[list[Positive], Field(min_length=1)] = Field(description="learning rates")
    warmup: Annotated[list[Index], Field(min_length=1)] = Field(
        description="steps over which the rate rises linearly"
    )

    def trials(self):
        """Every combination, each as {setting: value}."""
        names = [name for name in ("weight", "lr", "warmup") if hasattr(self, name)]
        return [
            dict(zip(names, each)) for each in itertools.product(*(getattr(self, name) for name in names))
        ]


class WithChain(Plain, ConsistencyOptions):
    """The same of an arm with a term over chains."""

    weight: Annotated[list[Positive], Field(min_length=1)] = Field(
        description="λ on the unbiased variance over trajectories (half of λ on the paper's pairwise square); of "
        "`reweighted`, λ of the consistency term whose gradient the added one is as long as"
    )


class ArmConsistency(Chains, ConsistencyOptions):
    """The chains of one arm, and the term over them."""

    weight: NonNegative


class ArmSettings(Block):
    """What training one arm reads: one of the combinations that its settings list."""

    batch: Count
    optimizer: Optimizer
    consistency: ArmConsistency


NO_TERM = {
    "weight_warmup": 0,
    "policy": "forward",
    "loss": "square",
    "huber_delta": 1.0,
    "per_dimension": False,
}


def combinations(arm):
    """How many an arm's block lists, as the file has it; 0 for what is no such block."""
    lists = [arm[key] for key in ("weight", "lr", "warmup") if key in arm] if isinstance(arm, dict) else []
    return math.prod(len(each) if isinstance(each, list) else 0 for each in lists) if lists else 0


class Finetune(Block):
    all: EveryArm = Field(description="what every arm reads")
    simple: Plain | None = Field(None, description="L_simple trained on")
    simple_tbc: WithChain | None = Field(None, description="the paper's MLE-GFN: L_simple + λ·TBC")
    reweighted: WithChain | None = Field(
        None, description="L_simple + μ·bound, its gradient as long as that of λ·TBC"
    )
    vlb: Plain | None = Field(None, description="the bound")
    vlb_tbc: WithChain | None = Field(None, description="the bound + λ·TBC")

    @rule(".")
    def budgets_are_equal(block):
        counts = {arm: combinations(block.get(arm)) for arm in get_args(Arm)}
        counts = {arm: count for arm, count in counts.items() if count}
        if len(set(counts.values())) > 1:
            tried = ", ".join(f"{arm} {count}" for arm, count in counts.items())
            return f"every arm must try equally many combinations, not {tried}"

    def arm(self, name, trial):
        """The ``ArmSettings`` of an arm with one of its combinations, {setting: value}."""
        own = getattr(self, name)
        term = own.model_dump(include=set(NO_TERM)) if isinstance(own, WithChain) else NO_TERM
        rates = {key: trial[key] for key in ("lr", "warmup")}
        return ArmSettings(
            batch=self.all.batch,
            optimizer=Optimizer(**self.all.optimizer.model_dump(), **rates),
            consistency=ArmConsistency(
                **self.all.consistency.model_dump(), **term, weight=trial.get("weight", 0.0)
            ),
        )


class LogLikelihood(Block):
    """log p of some test images beside its bound, at the last checkpoint."""

    images: Several = Field(description="the first N test images")
    trajectories: Several = Field(description="importance-weighted trajectories of each; an even number")

    @rule("trajectories")
    def halves_exist(trajectories):
        return "must be even: the estimate is compared with that of one half" if trajectories % 2 else None


class Nll(Block):
    seed: Index
    batch: Count = Field(description="states evaluated at once")
    estimator: Literal["full", "stratified"] = Field(
        description="the sum over every t, or an unbiased one over few t an image"
    )
    evaluations: Several = Field(description="network evaluations an image, on average, of `stratified`")
    log_p: LogLikelihood


class Trajectories(Block):
    seed: Index
    checkpoint: Count = Field(description="the fine-tune that Figure 3 samples from")
    arm: Arm
    pretrain_seed: Index
    shown: Count = Field(description="trajectories on the left of Figure 3")
    columns: Several = Field(description="times shown of each trajectory")
    samples: Count = Field(description="samples on the sheet at the right")


class Quality(Block):
    """Numbers about samples, beside the likelihood."""

    seed: Index
    samples: Several = Field(description="samples drawn from each model, compared with as many test images")
    projections: Count = Field(description="random directions of the sliced Wasserstein distance")
    inception: str | None = Field(
        description="file of torch-fidelity's Inception weights, for FID and IS; null = not measured"
    )

    inception_can_be_read = rule("inception")(path_given)


class Images(Block):
    machine: Machine
    compute: Compute
    data: Data
    network: Network
    diffusion: Diffusion
    pretrain: Pretrain
    finetune: Finetune
    nll: Nll
    trajectories: Trajectories
    quality: Quality

    @rule("trajectories.checkpoint", "pretrain.checkpoints")
    def checkpoint_exists(checkpoint, checkpoints):
        return among(checkpoint, "pretrain.checkpoints", checkpoints)

    @rule("trajectories.pretrain_seed", "pretrain.seeds")
    def seed_exists(seed, seeds):
        return among(seed, "pretrain.seeds", seeds)

    @rule("finetune.all.search.checkpoint", "pretrain.checkpoints")
    def search_starts_at_a_checkpoint(checkpoint, checkpoints):
        return among(checkpoint, "pretrain.checkpoints", checkpoints)

    @rule("finetune.all.search.seed", "pretrain.seeds")
    def search_starts_from_a_baseline(seed, seeds):
        return among(seed, "pretrain.seeds", seeds)

    @rule("pretrain.seeds", "pretrain.checkpoints")
    def finetunes_can_be_counted(seeds, checkpoints):
        count = len(seeds) * len(checkpoints)
        if count > FINETUNES:
            return f"asks for {count} fine-tunings of an arm (seeds × checkpoints); at most {FINETUNES}"

    @rule("trajectories.columns", "diffusion.timesteps")
    def columns_fit(columns, timesteps):
        if columns > timesteps + 1:
            return f"must be at most diffusion.timesteps + 1, {timesteps + 1}"

    chain_fits = rule(
        "finetune.all.consistency.chain_steps", "finetune.all.consistency.chain", "diffusion.timesteps"
    )(chain_fits)

    @rule("nll.evaluations", "nll.estimator", "diffusion.timesteps")
    def evaluations_fit(evaluations, estimator, timesteps):
        if estimator == "stratified" and evaluations > timesteps:
            return f"must be at most diffusion.timesteps, {timesteps}"
