"""The discrete diffusion family: what its checks say would be found wrong where it is wrong."""

import pytest
import torch
from helpers.sampled import COUNT, SIGMAS, deviation, log_spread, sampled_forward

from mlegfn.diffusion.likelihood import prior_term
from mlegfn.families.ddpm import DDPM, exact_residuals, sum_of_divergences, trajectory_balance
from mlegfn.randomness import generator
from mlegfn.trajectory import score

X0 = torch.tensor([[0.3, -1.2], [1.5, 0.4]], dtype=torch.float64)


def test_trajectory_balance_is_the_sum_of_divergences():
    model = DDPM.tiny()
    with torch.no_grad():
        torch.testing.assert_close(
            trajectory_balance(model, X0), sum_of_divergences(model, X0), rtol=1e-12, atol=0
        )


def test_a_mismatched_policy_is_another_divergence():
    """P_B scored by another noising, or L_T left out: the two are nats apart, not 1e-12."""
    model, other = DDPM.tiny(), DDPM.tiny()
    other.log_pb = lambda x_prev, x_t, t: model.log_pb(1.05 * x_prev, x_t, t)
    with torch.no_grad():
        bound = sum_of_divergences(model, X0)
        assert ((trajectory_balance(other, X0) - bound).abs() > 1e-3).all()
        without_prior = bound - prior_term(model.model.process, X0)
        assert ((trajectory_balance(model, X0) - without_prior).abs() > 1e-2).all()


def test_only_the_exact_reverse_balances():
    assert max(exact_residuals()) < 1e-10
    assert min(exact_residuals(wrong=1.01)) > 1e-3


def test_the_images_sampler_is_not_what_is_scored():
    """``DenoisingModel.sample_pf`` returns the mean of the last step, which log P_F gives another density."""
    model = DDPM.tiny(torch.float32)
    found = sampled_forward(model)
    assert found.deviation(found.log_w) < SIGMAS
    with torch.no_grad():
        states = model.model.sample_pf((COUNT, 2), generator(0, "means"))
        ratios = (log_spread(model, states[0]) - score(model, states).log_w).exp()
    assert deviation(ratios) > SIGMAS


@pytest.mark.parametrize("seed", [0, 1])
def test_the_last_step_has_its_own_noise(seed):
    """x_0 given x_1 spreads by σ_1."""
    model = DDPM.tiny(seed=seed)
    states = model.sample_pf((COUNT, 2), generator(0, "noise"))
    with torch.no_grad():
        t = torch.ones(COUNT, dtype=torch.int64)
        prediction = model.model.predict(states[1], t)
        mean = model.model.process.reverse_mean(states[1], t, prediction.eps)
        z = (states[0] - mean) * (-prediction.log_variance / 2).exp()
    assert z.var().item() == pytest.approx(1, abs=5 * (2 / (2 * COUNT)) ** 0.5)
