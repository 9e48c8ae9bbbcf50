"""The discretised Gaussian decoder: a probability over the levels, also far out in its tails."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlegfn.diffusion.decoder import discretised_log_prob
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion


def log_masses(mean, log_variance, levels, dtype, cdf="exact"):
    """[levels]: log mass of every grey value under one Gaussian."""
    x = torch.linspace(-1, 1, levels, dtype=dtype)[:, None]
    full = torch.full_like(x, mean)
    return discretised_log_prob(x, full, torch.full_like(x, log_variance), levels, cdf)


def reference(mean, log_variance, level, levels):
    """The log mass of one bin with 60 digits."""
    with mpmath.workdps(60):
        half = mpmath.mpf(1) / (levels - 1)
        x = -1 + 2 * half * level
        std = mpmath.exp(mpmath.mpf(log_variance) / 2)
        low, high = (x - half - mean) / std, (x + half - mean) / std

        def tail(z):  # P(N > z); erfc keeps its digits in the tail
            return mpmath.erfc(z / mpmath.sqrt(2)) / 2

        if level == 0:
            mass = tail(-high)
        elif level == levels - 1:
            mass = tail(low)
        elif low > 0:
            mass = tail(low) - tail(high)
        else:
            mass = tail(-high) - tail(-low)
        return float(mpmath.log(mass))


@given(
    st.sampled_from([2, 17, 256]),
    st.floats(-3, 3),
    st.floats(-16, 4),
    st.sampled_from([(torch.float64, 1e-11), (torch.float32, 2e-5)]),
)
@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
def test_masses_sum_to_one(levels, mean, log_variance, precision):
    """float32: a bin's upper edge and its neighbour's lower edge are rounded apart, by some eps/σ in units of
    σ, and as much mass is lost or counted twice where the mean lies; a wrong bin would be off by its mass."""
    dtype, tolerance = precision
    tolerance += torch.finfo(dtype).eps * math.exp(-log_variance / 2)
    log_mass = log_masses(mean, log_variance, levels, dtype)
    assert log_mass.isfinite().all()
    assert log_mass.double().exp().sum().item() == pytest.approx(1, abs=tolerance)


@given(st.sampled_from([2, 17, 256]), st.floats(-2, 2), st.floats(-14, 3), st.integers(0, 255), st.booleans())
@hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
def test_exact_masses_against_sixty_digits(levels, mean, log_variance, level, single):
    """Relative error of the *log* mass. float32: z = (x − mean)/σ carries an error of some eps · |z| · 2/|x − mean|,
    so log mass ~ z²/2 is good to about 1e-6 of itself away from the mean; the worst seen is 5e-6."""
    level %= levels
    dtype, tolerance = (torch.float32, 5e-5) if single else (torch.float64, 1e-11)
    # The reference must see the numbers that the float32 code sees.
    mean, log_variance = (torch.tensor(v, dtype=dtype).item() for v in (mean, log_variance))
    got = log_masses(mean, log_variance, levels, dtype)[level].item()
    want = reference(mean, log_variance, level, levels)
    assert got == pytest.approx(want, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cdf", ["exact", "tanh"])
def test_gradients_are_finite_for_extreme_means_and_variances(dtype, cdf):
    grid = torch.cartesian_prod(
        torch.linspace(-1, 1, 17, dtype=dtype),
        torch.tensor([-100.0, -5, -1, -0.51, 0, 0.3, 1, 20], dtype=dtype),
        torch.tensor([-20.0, -9, -4, 0, 5], dtype=dtype),
    )
    x, mean, log_variance = (column[:, None].clone() for column in grid.T)
    mean.requires_grad_(), log_variance.requires_grad_()
    value = discretised_log_prob(x, mean, log_variance, 17, cdf)
    value.sum().backward()
    assert value.isfinite().all()
    assert mean.grad.isfinite().all() and log_variance.grad.isfinite().all()


def test_float32_gradients_in_the_tail_are_float64s():
    """d log mass/d mean is z/σ in the tail; torch's derivative of log_ndtr cancels there (off by 50 % at z = 3e3).
    1e-4: z is a difference of float32 numbers and the mass an exponential of z·δ."""
    found = []
    for dtype in (torch.float32, torch.float64):
        mean = torch.tensor([[-4.0], [-1.7], [0.1], [1.9], [3.0]], dtype=dtype, requires_grad=True)
        x = torch.full((5, 1), 0.5, dtype=dtype)
        for log_variance in (-14.0, -8.0, -2.0):
            value = discretised_log_prob(x, mean, torch.full((5, 1), log_variance, dtype=dtype), 17)
            (slope,) = torch.autograd.grad(value.sum(), mean)
            found.append(slope.double())
    torch.testing.assert_close(torch.cat(found[:3]), torch.cat(found[3:]), rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_the_mass():
    """Analytic, d log mass/d mean = (φ(low) − φ(high))/(σ · mass), in float64 where nothing cancels."""
    mean = torch.linspace(-1.2, 1.2, 50, dtype=torch.float64)[:, None].requires_grad_()
    log_variance = torch.full((50, 1), -3.0, dtype=torch.float64, requires_grad=True)
    x = torch.linspace(-1, 1, 17, dtype=torch.float64)[torch.arange(50) % 17][:, None]
    assert torch.autograd.gradcheck(lambda m, v: discretised_log_prob(x, m, v, 17), (mean, log_variance))


@pytest.mark.parametrize("levels, log_variance", [(17, -5.0), (17, -3.0), (256, -9.0), (256, -5.0)])
def test_ddpms_tanh_is_close_to_exact(levels, log_variance):
    """The approximation of the CDF errs by at most 3e-4 (Page 1977 gives 1.8e-4), a bin's mass by twice that."""
    for mean in (-1.0, -0.4, 0.13, 0.9):
        exact = log_masses(mean, log_variance, levels, torch.float64).exp()
        tanh = log_masses(mean, log_variance, levels, torch.float64, "tanh").exp()
        assert (exact - tanh).abs().max() < 6e-4
        assert tanh.sum().item() == pytest.approx(1, abs=1e-6)
        assert not torch.equal(exact, tanh)


def test_pixels_add_up():
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 17, (3, 2, 4, 4), generator=draw).double() / 8 - 1
    mean, log_variance = torch.randn(2, 3, 2, 4, 4, generator=draw, dtype=torch.float64)
    whole = discretised_log_prob(x, mean, log_variance, 17)
    single = [
        discretised_log_prob(*(v.reshape(-1, 1) for v in (x[i], mean[i], log_variance[i])), 17).sum()
        for i in range(3)
    ]
    torch.testing.assert_close(whole, torch.stack(single))


def test_only_the_first_step_is_discrete():
    """With levels, log P_F at t = 1 is the decoder's mass; at every other step the Gaussian density."""
    process = GaussianDiffusion([0.1, 0.3, 0.5])
    table = torch.tensor([0.0, -3, -2, -1], dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    x_prev = torch.tensor([-1.0, -0.5, 0, 0.5, 1] * 3, dtype=torch.float64)[:, None]
    x_t, t = (
        torch.randn(15, 1, generator=draw, dtype=torch.float64),
        torch.tensor([1, 2, 3]).repeat_interleave(5),
    )
    models = [DenoisingModel(lambda x, time: 0.3 * x, process, table, levels) for levels in (5, None)]
    discrete, continuous = (model.log_pf(x_prev, x_t, t) for model in models)
    mean = process.reverse_mean(x_t, t, 0.3 * x_t)
    mass = discretised_log_prob(x_prev[:5], mean[:5], table[1].expand(5, 1), 5)
    torch.testing.assert_close(discrete[:5], mass)
    assert torch.equal(discrete[5:], continuous[5:])
    assert not torch.isclose(discrete[:5], continuous[:5]).any()


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: discretised_log_prob(x, x, x, 1),
        lambda x: discretised_log_prob(x, x[:1], x, 17),
        lambda x: discretised_log_prob(x, x, x, 17, "erf"),
    ],
)
def test_misuse_is_a_value_error_with_a_sentence(misuse):
    with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
        misuse(torch.zeros(2, 1))
