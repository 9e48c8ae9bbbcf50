"""Images of other numbers than float32 and float64 are refused for what they are, wherever a model meets them."""

import pytest
import torch
from helpers.exact import TinyNetwork, linear_process

from mlegfn.diffusion.likelihood import bits_per_dim
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.precision import check_precision
from mlegfn.diffusion.stratified import stratified_bits_per_dim
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.trajectory import score

REFUSED = {
    torch.uint8: r"holds integers \(uint8\); scale pixels to \[−1, 1\]",
    torch.int64: r"holds integers \(int64\)",
    torch.bool: r"holds integers \(bool\)",
    torch.float16: "is float16, in which log-probabilities lose whole nats",
    torch.bfloat16: "is bfloat16",
    torch.complex64: "holds complex numbers",
}


@pytest.fixture
def model():
    process = linear_process(6)
    return DenoisingModel(TinyNetwork(dtype=torch.float32), process, fixed_log_variance(process, "large"))


@pytest.mark.parametrize("dtype", REFUSED)
def test_they_are_refused(model, dtype):
    x0, t = torch.zeros(2, 1, 2, 2, dtype=dtype), torch.tensor([1, 6])
    states = torch.zeros(7, 2, 1, 2, 2, dtype=dtype)
    for evaluate in (
        lambda: check_precision(x0, "x0"),
        lambda: bits_per_dim(model, x0),
        lambda: stratified_bits_per_dim(model, x0, evaluations=4),
        lambda: model.predict(x0, t),
        lambda: model.log_pf(x0, x0, t),
        # Torch itself has no difference of bools.
        *((lambda: score(model, states),) if dtype != torch.bool else ()),
    ):
        with pytest.raises(ValueError, match=REFUSED[dtype]):
            evaluate()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_others_are_not(model, dtype):
    model.network = TinyNetwork(dtype=dtype)
    assert bits_per_dim(model, torch.zeros(2, 1, 2, 2, dtype=dtype)).per_image.isfinite().all()


def test_a_network_may_compute_in_half_precision(model):
    """As torch.autocast lets it: its output is no state."""
    network = model.network
    model.network = lambda x, time: network(x, time).bfloat16()
    assert bits_per_dim(model, torch.zeros(2, 1, 2, 2)).per_image.isfinite().all()


def test_the_network_gets_times_from_0_to_T_minus_1(model):
    seen, network = set(), model.network

    def counting(x, time):
        assert time.dtype == torch.int64
        seen.update(time.tolist())
        return network(x, time)

    model.network = counting
    bits_per_dim(model, torch.zeros(2, 1, 2, 2))
    assert seen == set(range(6))
    model.predict(torch.zeros(1, 1, 2, 2), torch.tensor([1]))
    assert "0…T−1" in DenoisingModel.__doc__
