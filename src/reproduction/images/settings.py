"""A scale's block ``images`` in params.yaml: data, network, training, likelihood, samples."""

import os
from typing import Annotated, Literal

from pydantic import Field

from reproduction.images.arm_settings import Finetune
from reproduction.settings.training import (
    Arm,
    Diffusion,
    Network,
    Optimizer,
    Variance,
    chain_fits,
)
from reproduction.settings.types import (
    Block,
    Count,
    Index,
    Positive,
    Several,
    Sha256,
    Switch,
    differ,
    rises,
)
from reproduction.settings.validation import rule

__all__ = ["Images"]

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


class Alignment(Block):
    """How the gradients of the bound and of the variance of log w lie to each other before fine-tuning."""

    states: Count = Field(description="independent states a batch, for the bound")
    bound_batches: Annotated[int, Field(ge=2, le=10**6, strict=True)] = Field(
        description="of these, a checkpoint; products of gradients are of different batches"
    )
    images: Count = Field(description="training images a batch, for the variance")
    trajectories: Several = Field(description="joint trajectories of each")
    batches: Annotated[int, Field(ge=2, le=10**6, strict=True)] = Field(
        description="of these, a checkpoint; the gradient of the variance is the noisy one"
    )
    variances: Annotated[list[Variance], Field(min_length=1)] = Field(
        description="kinds of reverse variances that are put on the network"
    )

    kinds_differ = rule("variances")(differ)


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
    alignment: Alignment | None = Field(default=None, description="a scale may lack it (`alignment_scales`)")

    @rule("alignment.variances", "diffusion.variance")
    def variances_fit_the_network(kinds, trained):
        for kind in kinds:
            if (kind == "learned") != (trained == "learned"):
                return f"has {kind!r}, but the network is trained with the variances {trained!r}"

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
