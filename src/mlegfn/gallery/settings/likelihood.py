"""Settings of the stations on likelihoods and samplers."""

from typing import Annotated

from pydantic import Field

from mlegfn.gallery.settings.images import Chain
from mlegfn.setting import Count, Index, Several, differ
from mlegfn.training_settings import Optimizer
from mlegfn.validation import rule

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
