"""Settings of the stations on images."""

from typing import Literal

from pydantic import Field

from mlegfn.setting import Beta, Block, Count, Index, Several
from mlegfn.training_settings import Network, Optimizer


class Chain(Block):
    """The noising process and the network of a station on images."""

    network: Network
    timesteps: Several = Field(description="T")
    beta_schedule: Literal["linear", "cosine"]
    beta_start: Beta = Field(description="β_1 of the linear schedule")
    beta_end: Beta = Field(description="β_T of the linear schedule")


class Algorithms(Chain):
    seed: Index
    steps: Count = Field(description="of training")
    batch: Count
    optimizer: Optimizer
    samples: Several = Field(description="drawn with Algorithm 2, and compared with as many test images")
    projections: Count = Field(description="random directions of the sliced Wasserstein distance")
