"""The moving average of the weights."""

import pytest
import torch

from mlegfn.randomness import generator
from mlegfn.training.ema import Ema


def draws(count, key="points"):
    return torch.randn(count, 2, generator=generator(0, key), dtype=torch.float64)


def test_the_average_is_that_of_diffusers():
    training_utils = pytest.importorskip("diffusers.training_utils")
    parameter = torch.nn.Parameter(draws(7).float())
    ours = Ema([parameter], 0.9)
    theirs = training_utils.EMAModel([parameter], decay=0.9, min_decay=0.9, foreach=True)
    for step in range(5):
        with torch.no_grad():
            parameter.add_(draws(7, key=("step", step)).float())
        ours.step([parameter])
        theirs.step([parameter])
        assert torch.equal(ours.shadow_params[0], theirs.shadow_params[0])
    assert ours.optimization_step == theirs.optimization_step
