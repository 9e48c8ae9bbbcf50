"""The paper's propositions on flows, 8, 9, 13 and 14, in our reading of them (docs/math.md), each with wrong variants.

8: deterministic policies: balance is the change of variables. 9: in continuous time, d log p/ds = −∇·v. 13: the ratio
of a narrow Gaussian step and its reversal tends to a Jacobian determinant. 14: so an SDE's log w tends to its ODE's
log-density as σ → 0.
"""

import math

import pytest
import torch

from mlegfn.families.continuous_flow import ContinuousFlow
from mlegfn.families.coupling_flow import CouplingFlow
from mlegfn.families.shared import flows as _flows
from mlegfn.families.shared.comparing import slope
from mlegfn.families.shared.fitting import log_weights
from mlegfn.families.stochastic_flow import (
    StochasticFlow,
    euler_log_prob,
    jacobian_error,
    noise_curve,
    steps_for,
)
from mlegfn.randomness import generator
from mlegfn.trajectory import score

HALVES = [2.0**-k for k in range(1, 9)]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def x():
    return 1.5 * torch.randn(32, 2, generator=generator(0, "test of flows"), dtype=torch.float64)


@pytest.fixture(scope="module")
def linear():
    return _flows.LinearField.example()


@pytest.fixture(scope="module")
def bent():
    """A nonlinear field."""
    return StochasticFlow.tiny().velocity


def test_proposition_8_balance_of_deterministic_policies_is_the_change_of_variables(x):
    model = CouplingFlow.tiny()
    trajectory = score(model, model.sample_pb(x, None))
    x_T, jacobian = _flows.value_and_jacobian(lambda y: model.sample_pb(y, None)[-1], x)
    expected = _flows.log_normal(x_T, model.scale) + torch.linalg.slogdet(jacobian)[1]
    # Both are sums of a few numbers of size 1, rounded at 1e-16.
    torch.testing.assert_close(trajectory.log_w, expected, rtol=0, atol=1e-12)
    missing, sign = trajectory.log_prior, trajectory.log_prior - trajectory.log_pf.sum(0)
    for wrong in (missing, sign):
        assert (wrong - expected).abs().max() > 0.1


def test_proposition_8_only_with_the_jacobian_is_there_a_density():
    model = CouplingFlow.tiny()
    whole = _flows.mass(lambda x: score(model, model.sample_pb(x, None)).log_w, 14, 281)
    missing = _flows.mass(lambda x: score(model, model.sample_pb(x, None)).log_prior, 14, 281)
    assert abs(whole - 1) < 1e-3 and abs(missing - 1) > 0.02  # kinks of the splines: O(step²), step 0.1


@pytest.mark.parametrize("family", [CouplingFlow, ContinuousFlow])
def test_proposition_8_a_step_off_the_graph_has_no_probability(family, x):
    model = family.tiny()
    states = model.sample_pb(x, None)
    states[1, 0] += 1e-4
    log_w = score(model, states).log_w
    assert log_w[0] == -math.inf and log_w[1:].isfinite().all()


def test_proposition_9_balance_is_the_instantaneous_change_of_variables(linear, x):
    model = ContinuousFlow(linear, timesteps=4, substeps=16)
    trajectory = score(model, model.sample_pb(x, None))
    # 64 steps of order 4: the error is (1/64)^4 = 6e-8 times derivatives below 1.
    torch.testing.assert_close(trajectory.log_w, linear.log_prob(x), rtol=0, atol=1e-7)
    torch.testing.assert_close(
        trajectory.log_pf, torch.full_like(trajectory.log_pf, -linear.matrix.trace() / 4)
    )
    missing, sign = trajectory.log_prior, trajectory.log_prior - trajectory.log_pf.sum(0)
    for wrong in (missing, sign):
        assert (wrong - linear.log_prob(x)).abs().min() > 0.1


def test_proposition_9_on_a_nonlinear_field_however_many_steps(bent, x):
    exact = ContinuousFlow(bent, 1).log_prob(x, 1e-11)
    for steps in (1, 3, 8):
        model = ContinuousFlow(bent, steps, substeps=24)
        log_w = score(model, model.sample_pb(x, None)).log_w
        torch.testing.assert_close(log_w, exact, rtol=0, atol=1e-6)


def test_proposition_13_a_narrow_steps_ratio_is_a_jacobian_determinant(bent, x):
    errors = torch.tensor([[sigma, jacobian_error(bent, x, sigma)] for sigma in HALVES])
    # 256 noises a point: r.m.s. to 5 %, the slope over six octaves to 0.02.
    assert slope(errors[2:]) == pytest.approx(1, abs=0.1)
    assert errors[-1, 1] < 2**-8


def test_proposition_13_needs_the_inverse_mean(bent, x):
    """With the reversal's drift at x′ instead of f⁻¹, the two Gaussians miss each other by O(h²) ≫ σ√h."""
    errors = torch.tensor([[s / 256, jacobian_error(bent, x, s / 256, "drift")] for s in HALVES])
    assert slope(errors) == pytest.approx(-2, abs=0.1)


def test_proposition_13_needs_the_matched_covariance(bent, x):
    """With f⁻¹ but covariance σ²h·I the ratio stays random as σ → 0, of mean −½(‖J‖² − 2), not −log |det J|."""
    pair, t = StochasticFlow(bent, 2, 1e-5, "inverse"), torch.ones(200_000, dtype=torch.int64)
    y, matrix = pair.inverse(x[:1], t[:1])
    noise = torch.randn(len(t), 2, generator=generator(0, "isotropic"), dtype=x.dtype)
    x_t = y + pair.std * noise
    ratio = pair.log_pf(x[:1], x_t, t) - _flows.log_normal(x_t - y, pair.std)
    error = ratio.std() / math.sqrt(len(ratio))
    assert ratio.std() > 0.01 > 1000 * jacobian_error(bent, x, 1e-5)
    assert (ratio.mean() + (matrix[0].square().sum() - 2) / 2).abs() < 5 * error
    assert (ratio.mean() + torch.linalg.slogdet(matrix[0])[1]).abs() > 5 * error


def test_proposition_14_the_exact_mean_of_log_w_tends_to_the_ode(linear, x):
    gap = [(linear.expected_log_w(x, s, steps_for(s)) - linear.log_prob(x)).abs() for s in HALVES]
    for of_x in (torch.stack(gap).mean(1), torch.stack(gap).amax(1)):
        curve = torch.stack([torch.tensor(HALVES, dtype=x.dtype), of_x], 1)
        # The next order is σ⁴, so that the slope differs from 2 by about its 2^-8 at 2^-4.
        assert slope(curve[-4:]) == pytest.approx(2, abs=0.02)
    assert gap[-1].max() < 1e-3


@pytest.mark.parametrize("sigma", [0.5, 0.125])
def test_proposition_14_that_mean_is_what_trajectories_have(linear, x, sigma):
    pair = StochasticFlow(linear, steps_for(sigma / 2), sigma, "drift")
    log_w = log_weights(pair, x, 2000, generator(0, "mean", sigma))
    z = (log_w.mean(1) - linear.expected_log_w(x, sigma, pair.timesteps)) / (log_w.std(1) / math.sqrt(2000))
    assert z.abs().max() < 5


def test_proposition_14_mean_square_and_variance_vanish(bent, x):
    ode = ContinuousFlow(bent, 1).log_prob(x, 1e-11)
    curve = noise_curve(bent, ode, x, HALVES[:6], steps_for)
    assert slope(curve[2:]) == pytest.approx(1, abs=0.15)  # four octaves: to 0.03
    spread = []
    for sigma in HALVES[2:6]:
        log_w = log_weights(StochasticFlow(bent, steps_for(sigma), sigma, "drift"), x, 8, generator(1, sigma))
        spread.append([sigma, log_w.var(1).mean().item()])
    assert slope(torch.tensor(spread)) == pytest.approx(2, abs=0.3)


def test_proposition_14_the_other_order_of_limits(linear, bent, x):
    """σ → 0 at fixed h: with the reversal by f⁻¹ and J the Euler map's own density, O(h) from the ODE's, and with the
    reversal by the drift alone nothing: log w → −∞."""
    ode = ContinuousFlow(bent, 1).log_prob(x, 1e-11)
    euler = [
        [1 / T, (euler_log_prob(bent, x, T) - ode).square().mean().sqrt().item()] for T in (8, 16, 32, 64)
    ]
    assert slope(torch.tensor(euler)) == pytest.approx(1, abs=0.1)  # Euler's method is of order 1
    curve = noise_curve(bent, euler_log_prob(bent, x, 8), x, [1e-4], lambda sigma: 8, "inverse")
    assert curve[0, 1] < 1e-4 < euler[0][1] / 10
    diverging = torch.stack([linear.expected_log_w(x, sigma, 8) for sigma in (1e-2, 1e-3, 1e-4)])
    assert (diverging[0] < -50).any() and (diverging[2] < diverging[1]).all()


def test_proposition_14_noise_as_large_as_a_step_is_not_enough(linear, x):
    """h ∝ σ: the term h²/2σ² ∫|dv/ds|² stays, however small both are."""
    gap = [(linear.expected_log_w(x, s, round(1 / s)) - linear.log_prob(x)).mean().item() for s in HALVES]
    assert all(each < -0.1 for each in gap[-3:]) and gap[-1] == pytest.approx(gap[-2], rel=0.05)


def test_proposition_14_a_reversal_without_its_own_drift_has_no_divergence(linear, x):
    """P_B's mean must be taken at x′, where it starts. With P_F's, at x, the two exponents cancel and −∇·v is lost."""
    sigma = 2.0**-6
    pair = StochasticFlow(linear, steps_for(sigma), sigma, "drift")
    states = pair.sample_pb(x.repeat(8, 1), generator(0, "wrong drift"))
    right = score(pair, states).log_w - linear.log_prob(x).repeat(8)

    class Wrong(StochasticFlow):
        def log_pb(self, x_prev, x_t, t):
            s = 1 - t.to(x_t.dtype) / self.timesteps
            return _flows.log_normal(x_t - (x_prev - self.velocity(x_t, s) / self.timesteps), self.std)

    wrong = score(Wrong(linear, pair.timesteps, sigma, "drift"), states).log_w - linear.log_prob(x).repeat(8)
    error = right.std() / 16
    assert right.mean().abs() < 5 * error
    assert (wrong.mean() - linear.matrix.trace()).abs() < 5 * error < linear.matrix.trace().abs()


def test_with_the_score_balance_needs_no_small_noise(linear, x):
    """Var log w → 0 as h → 0 at σ = 1/2, where the reversal by the drift alone keeps its spread."""
    spread = {
        reversal: [
            log_weights(StochasticFlow(linear, T, 0.5, reversal), x, 16, generator(0, T)).var(1).mean().item()
            for T in (16, 64, 256)
        ]
        for reversal in ("score", "drift")
    }
    assert spread["score"][2] < spread["score"][0] / 8 < spread["score"][1]
    assert spread["drift"][2] > 20 * spread["score"][2] and spread["drift"][2] > spread["drift"][1] / 2


def test_an_unknown_reversal_is_refused(linear):
    with pytest.raises(ValueError, match="reversal"):
        StochasticFlow(linear, 4, 0.5, "time")
