"""Noising with learned rates: fixed ends, exact balance, and three estimators of one gradient; each against what is wrong."""

import math

import pytest
import torch

from mlegfn.diffusion.learned_noising import (
    LearnedSchedule,
    ReverseProcess,
    log_noising,
    log_prior,
    noised,
)
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import generator

BETA = betas(6, "linear", 0.05, 0.6)
SIGNAL = torch.cumprod(1 - BETA, 0)
LOG_SNR = SIGNAL.log() - (1 - SIGNAL).log()


def shaken(shape, seed=0):
    """A schedule with random rates between the ends of LOG_SNR, in float64."""
    schedule = LearnedSchedule(LOG_SNR, shape)
    with torch.no_grad():
        schedule.logits.copy_(torch.randn(schedule.logits.shape, generator=generator(seed, "φ")).double())
    return schedule


def test_zero_gives_the_fixed_schedule_and_any_value_keeps_its_ends():
    rates = LearnedSchedule(LOG_SNR, (2,)).rates()
    torch.testing.assert_close(rates.variance, BETA[:, None].expand(6, 2), rtol=1e-10, atol=0)
    torch.testing.assert_close(rates.scale.square(), (1 - BETA)[:, None].expand(6, 2))
    torch.testing.assert_close(rates.noise, (1 - SIGNAL)[:, None].expand(6, 2))
    other = shaken((2,)).log_snr()
    assert (other[:-1] > other[1:]).all()
    torch.testing.assert_close(other[[0, -1]], LOG_SNR[[0, -1], None].expand(2, 2))
    assert not torch.allclose(other[2], LOG_SNR[2])


@pytest.mark.parametrize("wrong", [LOG_SNR.flip(0), LOG_SNR[:2], LOG_SNR[:, None]])
def test_a_schedule_falls(wrong):
    with pytest.raises(ValueError, match="falling log signal-to-noise"):
        LearnedSchedule(wrong, (1,))


def test_with_equal_rates_the_densities_are_those_of_gaussian_diffusion():
    process, schedule = GaussianDiffusion(BETA), LearnedSchedule(LOG_SNR, (1,))
    x0 = torch.randn(5, 3, generator=generator(0, "x")).double()
    noise = torch.randn(6, 5, 3, generator=generator(0, "noise")).double()
    path = noised(x0, schedule.rates(), noise)
    terms = log_noising(path, schedule.rates())
    for t in range(1, 7):
        wanted = process.log_pb(path[t - 1], path[t], torch.full((5,), t))
        torch.testing.assert_close(terms[t - 1], wanted)
    torch.testing.assert_close(log_prior(path), process.log_prior(path[-1]))


def exact_reverse(variance, schedule):
    """P_F of data N(0, variance) [D] under ``schedule``: ε and the reverse variances of a normal are known."""
    signal = torch.sigmoid(schedule.log_snr()).detach()
    before = torch.cat([torch.ones_like(signal[:1]), signal[:-1]])
    of_time = [(s * variance + 1 - s) for s in signal]

    def eps(x, time):
        rows = torch.stack(of_time)[time]
        return (1 - signal[time]).sqrt() * x / rows

    reverse = ReverseProcess(eps, LOG_SNR, schedule.shape)
    reverse.schedule.load_state_dict(schedule.state_dict())
    with torch.no_grad():
        # Var[x_{t−1} | x_t] = v_{t−1} (1 − a²)/v_t for normal data of marginal variances v.
        marginal = torch.stack(of_time)
        earlier = before * variance + 1 - before
        reverse.log_scale.copy_((earlier / marginal).log())
    return reverse


def log_weights(reverse, schedule, path):
    return log_prior(path) + (reverse.log_prob(path) - log_noising(path, schedule.rates())).sum(0)


def test_the_exact_reverse_of_a_normal_has_log_w_equal_to_log_p_on_every_path():
    """But for the prior, which is not exactly x_T's density: so data of variance 1, whose x_T is normal."""
    schedule, variance = shaken((2,)), torch.ones(2, dtype=torch.float64)
    reverse = exact_reverse(variance, schedule)
    x0 = torch.randn(4, 2, generator=generator(1, "x")).double().repeat_interleave(8, 0)
    noise = torch.randn(6, 32, 2, generator=generator(1, "noise")).double()
    log_w = log_weights(reverse, schedule, noised(x0, schedule.rates(), noise)).view(4, 8)
    log_p = (-0.5 * x0.square() - 0.5 * math.log(2 * math.pi)).sum(1).view(4, 8)
    torch.testing.assert_close(log_w, log_p, rtol=0, atol=1e-10)
    # Rates of another P_B leave a residual.
    other = shaken((2,), seed=5)
    wrong = log_weights(reverse, other, noised(x0, other.rates(), noise)).view(4, 8)
    assert wrong.var(1).mean() > 1e-3


def test_tbc_on_the_rates_is_the_bounds_gradient_if_p_f_is_held_and_is_not_if_it_shares_them():
    """Means over many draws of: ½∇V, the reparameterised ∇N, and ½∇V of a P_F that has the same rates."""
    schedule = shaken((1,))
    held = exact_reverse(torch.tensor([0.3], dtype=torch.float64), shaken((1,), seed=2))
    rows = {"pathwise": [], "tbc": [], "shared": []}
    for number in range(40):
        x0 = (
            (0.3**0.5 * torch.randn(64, 1, generator=generator(number, "x"))).double().repeat_interleave(8, 0)
        )
        noise = torch.randn(6, 512, 1, generator=generator(number, "noise")).double()
        attached = noised(x0, schedule.rates(), noise)
        bound = -log_weights(held, schedule, attached).mean()
        path = attached.detach()
        half = consistency(log_weights(held, schedule, path).view(64, 8)).mean() / 2
        sharing = exact_reverse(torch.tensor([0.3], dtype=torch.float64), schedule)
        sharing.schedule = schedule
        shared = consistency(log_weights(sharing, schedule, path).view(64, 8)).mean() / 2
        for name, value in (("pathwise", bound), ("tbc", half), ("shared", shared)):
            rows[name].append(torch.autograd.grad(value, schedule.logits)[0].flatten())
    tables = {name: torch.stack(estimates) for name, estimates in rows.items()}

    def apart(name):
        """Largest difference of the means from the reparameterised ones, in standard errors."""
        difference = tables[name] - tables["pathwise"]
        return (difference.mean(0) / (difference.std(0) / 40**0.5)).abs().max()

    assert tables["pathwise"].mean(0).norm() > 5 * (tables["pathwise"].std(0) / 40**0.5).norm()
    assert apart("tbc") < 4 < 10 < apart("shared")
