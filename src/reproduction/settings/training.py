"""Noise, networks, optimisers and the consistency term in params.yaml: blocks that several experiments have."""

from typing import Annotated, Literal

from pydantic import Field

from reproduction.settings.types import (
    Beta,
    Block,
    Count,
    Fraction,
    Index,
    NonNegative,
    Positive,
    Several,
    Switch,
)
from reproduction.settings.validation import rule

Variance = Literal["large", "small", "analytic", "learned"]
Arm = Literal["simple", "simple_tbc", "reweighted", "vlb", "vlb_tbc"]  # mlegfn.training.finetuning.ARMS


class LinearNoise(Block):
    timesteps: Several = Field(description="T")
    beta_start: Beta = Field(description="β_1 of the linear schedule")
    beta_end: Beta = Field(description="β_T of the linear schedule")

    @rule("beta_end", "beta_start")
    def betas_rise(end, start):
        if end < start:
            return f"must not be below beta_start, {start}"


class Noise(LinearNoise):
    beta_schedule: Literal["linear", "cosine"]


class Diffusion(Noise):
    variance: Variance = Field(description="reverse variances: β_t, β̃_t, the analytic optimum, or learned")
    variance_samples: Count = Field(description="training data from which `analytic` is estimated")
    decoder: Literal["exact", "tanh"] = Field(
        description="the normal CDF of the discretised decoder (images only)"
    )


class Network(Block):
    block_out_channels: Annotated[list[Count], Field(min_length=1)] = Field(
        description="U-Net channels, one entry a resolution"
    )
    attention: Annotated[list[Switch], Field(min_length=1)] = Field(
        description="self-attention at each resolution"
    )
    layers_per_block: Count = Field(description="residual blocks a resolution")
    norm_num_groups: Count = Field(description="groups of each GroupNorm; divides every channel count")
    dropout: Fraction

    @rule("attention", "block_out_channels")
    def resolutions_match(attention, channels):
        if len(attention) != len(channels):
            return f"must have as many entries as block_out_channels, {len(channels)}"

    @rule("norm_num_groups", "block_out_channels")
    def groups_divide(groups, channels):
        if any(c % groups for c in channels):
            return f"must divide every entry of block_out_channels, {channels}"


class Optimizer(Block):
    lr: Positive
    warmup: Index = Field(description="steps over which the learning rate rises linearly to lr")
    clip: Positive = Field(description="largest gradient norm")
    ema_decay: Fraction


class Chains(Block):
    """The joint trajectories that the consistency term is over (docs/math.md); every arm spends their evaluations."""

    trajectories: Several = Field(description="M, joint trajectories an image")
    images: Count = Field(description="images a step whose trajectories are drawn")
    chain: Literal["full", "respaced", "subtrajectory"] = Field(description="which chain the balance is over")
    chain_steps: Count = Field(description="S of `respaced`, t − s of `subtrajectory`; `full` takes all T")
    gradient: Literal["exact", "subsampled"] = Field(
        description="through every step, or through gradient_steps of them weighted T/K"
    )
    gradient_steps: Count = Field(description="K of `subsampled`")
    chunk: Count = Field(description="states evaluated at once; memory is proportional to it")


class ConsistencyOptions(Block):
    """How the consistency term becomes a loss (docs/math.md), but for its weight."""

    weight_warmup: Index = Field(description="steps over which λ rises linearly from 0")
    policy: Literal["forward"] = Field(
        description="which policy the term trains; fixed noising leaves only `forward`"
    )
    loss: Literal["square", "huber"]
    huber_delta: Positive = Field(
        description="where `huber` turns linear, nats (after the division by dimension)"
    )
    per_dimension: Switch = Field(description="divide log w by the data's dimension first")


class ConsistencyLoss(ConsistencyOptions):
    """The consistency term as a loss, with its weight."""

    weight: NonNegative = Field(
        description="λ on the unbiased variance over trajectories (half of λ on the paper's pairwise square)"
    )


def chain_fits(chain_steps, chain, timesteps):
    """The check of a rule: a chain that is not the full one has at most T steps."""
    if chain != "full" and chain_steps > timesteps:
        return f"must be at most diffusion.timesteps, {timesteps}"
