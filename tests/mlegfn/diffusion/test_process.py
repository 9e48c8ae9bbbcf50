"""The noising process and the variance tables, against linear algebra on the joint Gaussian, in float64."""

import math

import pytest
import torch
from helpers.exact import condition, exact_gaussian, joint_gaussian, linear_process
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlegfn.diffusion.likelihood import epsilon_errors
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion, normal_log_prob
from mlegfn.diffusion.schedules import betas
from mlegfn.diffusion.variances import analytic_log_variance, fixed_log_variance
from mlegfn.randomness import batch_indices, generator

TIGHT = {"rtol": 1e-9, "atol": 1e-12}
PROCESS = GaussianDiffusion(betas(12, "linear", 0.01, 0.4))
X0 = 0.7


def scalar(value):
    return torch.tensor([[value]], dtype=torch.float64)


@pytest.mark.parametrize("t", range(1, 13))
def test_marginal_is_the_joint_gaussians(t):
    mean, covariance = joint_gaussian(PROCESS, X0)
    got_mean, got_variance = PROCESS.marginal(scalar(X0), t)
    torch.testing.assert_close(got_mean.squeeze(), mean[t - 1], **TIGHT)
    torch.testing.assert_close(got_variance, covariance[t - 1, t - 1], **TIGHT)


@pytest.mark.parametrize("t", range(2, 13))
def test_posterior_is_the_joint_gaussians_conditional(t):
    mean, covariance = joint_gaussian(PROCESS, X0)
    x_t = -0.3
    want_mean, want_variance = condition(
        mean, covariance, t - 2, [t - 1], torch.tensor([x_t], dtype=torch.float64)
    )
    got_mean, got_variance = PROCESS.posterior(scalar(X0), scalar(x_t), t)
    torch.testing.assert_close(got_mean.squeeze(), want_mean, **TIGHT)
    torch.testing.assert_close(got_variance, want_variance, **TIGHT)


def test_posterior_at_the_first_step_is_the_point_x0():
    mean, variance = PROCESS.posterior(scalar(X0), scalar(-0.3), 1)
    torch.testing.assert_close(mean, scalar(X0), **TIGHT)
    assert variance == 0


@given(
    st.lists(st.integers(0, 12), min_size=3, max_size=3, unique=True).map(sorted),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
def test_bridge_is_the_joint_gaussians_conditional(times, x_s, x_t):
    s, r, t = times
    # x_0 = x_s where s = 0; else x_0 is anything: given x_s it does not matter.
    mean, covariance = joint_gaussian(PROCESS, x_s if s == 0 else X0)
    given_times, values = ([t - 1], [x_t]) if s == 0 else ([s - 1, t - 1], [x_s, x_t])
    want_mean, want_variance = condition(
        mean, covariance, r - 1, given_times, torch.tensor(values, dtype=torch.float64)
    )
    got_mean, got_variance = PROCESS.bridge(scalar(x_s), scalar(x_t), s, r, t)
    torch.testing.assert_close(got_mean.squeeze(), want_mean, rtol=1e-8, atol=1e-10)
    assert got_variance == pytest.approx(want_variance.item(), rel=1e-8)


def test_step_density_is_the_joint_gaussians():
    """Σ_t log q(x_t | x_{t−1}) = log N((x_1 … x_T); mean, covariance): the factorisation, end to end."""
    mean, covariance = joint_gaussian(PROCESS, X0)
    states = PROCESS.sample_trajectory(scalar(X0), generator(0, "density"))
    t = torch.arange(1, 13)
    total = PROCESS.log_pb(states[:-1, 0], states[1:, 0], t).sum()
    joint = torch.distributions.MultivariateNormal(mean, covariance).log_prob(states[1:, 0, 0])
    torch.testing.assert_close(total, joint, **TIGHT)


@pytest.mark.parametrize("steps", [1, 2, 5, 11, 12])
def test_respaced_keeps_the_marginals_and_knows_its_times(steps):
    short = PROCESS.respaced(steps)
    full_times = short.network_times + 1
    assert short.timesteps == steps and full_times[-1] == PROCESS.timesteps
    assert (full_times.diff() > 0).all()
    torch.testing.assert_close(short.alpha_bar[1:], PROCESS.alpha_bar[full_times], **TIGHT)
    # Its steps are the joint Gaussian's conditionals of one kept time given the one before.
    mean, covariance = joint_gaussian(PROCESS, X0)
    for r in range(2, steps + 1):
        before, after = int(full_times[r - 2]), int(full_times[r - 1])
        want_mean, want_variance = condition(
            mean, covariance, after - 1, [before - 1], torch.tensor([0.4], dtype=torch.float64)
        )
        torch.testing.assert_close(short.alpha[r].sqrt() * 0.4, want_mean, **TIGHT)
        torch.testing.assert_close(short.beta[r], want_variance, **TIGHT)


def moments_agree(samples, mean, covariance):
    """Every empirical mean and covariance of samples [N, k] within 5 standard errors of the truth.

    5σ over the ≤ 90 numbers compared here fails a right implementation once in 2·10⁴ seeds; the seed is fixed.
    """
    count = len(samples)
    standard = covariance.diagonal().sqrt()
    mean_error = (samples.mean(0) - mean).abs() / (standard / count**0.5)
    spread = (covariance**2 + standard[:, None] ** 2 * standard[None] ** 2).sqrt() / count**0.5
    return mean_error.max() < 5 and ((samples.T.cov() - covariance).abs() / spread).max() < 5


def test_sample_trajectory_is_one_joint_path():
    mean, covariance = joint_gaussian(PROCESS, X0)
    x0 = torch.full((20000, 1), X0, dtype=torch.float64)
    states = PROCESS.sample_trajectory(x0, generator(0, "joint"))
    assert states.shape == (13, 20000, 1) and torch.equal(states[0], x0)
    assert moments_agree(states[1:, :, 0].T, mean, covariance)
    # The check sees the difference: states drawn independently for each t have the marginals only.
    eps = torch.randn(12, 20000, 1, generator=generator(0, "independent"), dtype=torch.float64)
    apart = torch.stack([PROCESS.noise(x0, t, eps[t - 1]) for t in range(1, 13)])
    assert not moments_agree(apart[:, :, 0].T, mean, covariance)


@pytest.mark.parametrize("s, t", [(0, 6), (3, 9), (4, 5)])
def test_sample_bridge_has_the_conditionals_moments(s, t):
    ends = {s: 0.5, t: -1.0}
    count = 20000
    x_s, x_t = (torch.full((count, 1), ends[time], dtype=torch.float64) for time in (s, t))
    states = PROCESS.sample_bridge(x_s, x_t, s, t, generator(0, "bridge", s, t))
    assert states.shape == (t - s + 1, count, 1)
    assert torch.equal(states[0], x_s) and torch.equal(states[-1], x_t)
    if t - s == 1:
        return
    mean, covariance = joint_gaussian(PROCESS, ends[s] if s == 0 else X0)
    index = torch.arange(s, t - 1)
    given_times = [t - 1] if s == 0 else [s - 1, t - 1]
    values = torch.tensor([ends[time + 1] for time in given_times], dtype=torch.float64)
    gain = torch.linalg.solve(covariance[given_times][:, given_times], covariance[given_times][:, index]).T
    want_mean = mean[index] + gain @ (values - mean[given_times])
    want_covariance = covariance[index][:, index] - gain @ covariance[given_times][:, index]
    assert moments_agree(states[1:-1, :, 0].T, want_mean, want_covariance)


def test_draws_are_functions_of_their_key():
    x0 = torch.zeros(2, 3)
    draw = [PROCESS.sample_trajectory(x0, generator(0, "a", key)) for key in (1, 1, 2, "1")]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2]) and not torch.equal(draw[0], draw[3])
    first = generator(5, "stage", 7)
    torch.randn(100)  # the global state is nobody's key
    assert torch.equal(torch.rand(9, generator=first), torch.rand(9, generator=generator(5, "stage", 7)))


def test_noise_noise_of_and_predict_x0_undo_each_other():
    t = torch.arange(1, 13)
    x0, eps = torch.randn(2, 12, 3, 2, generator=generator(0, "undo"), dtype=torch.float64)
    x_t = PROCESS.noise(x0, t, eps)
    torch.testing.assert_close(PROCESS.noise_of(x0, x_t, t), eps, **TIGHT)
    torch.testing.assert_close(PROCESS.predict_x0(x_t, t, eps), x0, **TIGHT)
    # μ(x_t, ε) is the posterior mean at the x_0 that ε stands for.
    mean, _ = PROCESS.posterior(x0, x_t, t)
    torch.testing.assert_close(PROCESS.reverse_mean(x_t, t, eps), mean, **TIGHT)


def test_float32_coefficients_are_the_float64_ones_rounded_once():
    """At T = 1000 1 − ᾱ_1 is 1e-4: formed in float32 from ᾱ_1 it would be off by 6e-4 of itself."""
    process = linear_process(1000)
    t = torch.arange(1, 1001)
    one, none = torch.ones(1000, 1), torch.zeros(1000, 1)
    variance = 1 - process.alpha_bar[1:]
    rounding = {"rtol": 1.2e-7, "atol": 0}  # float32's eps
    torch.testing.assert_close(process.noise(none, t, one).double().squeeze(), variance.sqrt(), **rounding)
    torch.testing.assert_close(process.marginal(none, t)[1].double().squeeze(), variance, **rounding)
    path = process.trajectory_of(torch.zeros(1, 1), torch.ones(1000, 1, 1))
    assert path[1].item() == pytest.approx(1e-4**0.5, rel=1.2e-7)


# ---------------------------------------------------------------- schedules


def test_linear_and_cosine_schedules():
    linear = betas(1000)
    assert linear[0] == 1e-4 and linear[-1] == pytest.approx(0.02) and linear.dtype == torch.float64
    torch.testing.assert_close(linear.diff(), torch.full((999,), (0.02 - 1e-4) / 999, dtype=torch.float64))
    cosine = GaussianDiffusion(betas(100, "cosine"))
    f = [math.cos(math.pi / 2 * (t / 100 + 0.008) / 1.008) ** 2 for t in range(101)]
    # The last steps are clipped at 0.999; before them ᾱ is f(t)/f(0).
    for t in range(1, 99):
        assert cosine.alpha_bar[t].item() == pytest.approx(f[t] / f[0], rel=1e-9)
    assert cosine.beta.max() <= 0.999


# ---------------------------------------------------------------- reverse variances


@pytest.mark.parametrize("kind", ["large", "small"])
def test_fixed_variances_are_ddpms(kind):
    process = linear_process(1000)
    table = fixed_log_variance(process, kind)
    beta, bar = process.beta, process.alpha_bar
    small = beta[2:] * (1 - bar[1:-1]) / (1 - bar[2:])
    torch.testing.assert_close(table[2:].exp(), beta[2:] if kind == "large" else small, **TIGHT)
    # t = 1: log β̃_1 = −∞, so DDPM's code puts β̃_2 there, for both kinds.
    torch.testing.assert_close(table[1].exp(), small[0], **TIGHT)


def nonlinear(x, time):
    return torch.tanh(1.5 * x) * 0.6 + 0.1


def test_analytic_variance_minimises_the_bound_at_every_step():
    """Var by calculus against a numerical minimisation of E[KL] in log σ² over the same x_0, x_t."""
    process = linear_process(8)
    x0 = 0.5 * torch.randn(64, 1, 2, 2, generator=generator(0, "data"), dtype=torch.float64)
    model = DenoisingModel(nonlinear, process, fixed_log_variance(process, "large"))
    errors = epsilon_errors(model, x0, seed=0).mean(1)
    table = analytic_log_variance(process, errors)

    # Golden-section search on the bound itself, which epsilon_errors' noise reproduces.
    from mlegfn.diffusion.likelihood import image_noise

    noise = image_noise(x0, range(64), 8, (0, "variance"))
    for step in range(2, 9):
        t = torch.full((64,), step)
        x_t = process.noise(x0, t, noise[step - 1])

        def bound(log_variance, t=t, x_t=x_t):
            trial = torch.full((9,), log_variance, dtype=torch.float64)
            return DenoisingModel(nonlinear, process, trial).bound_terms(x0, x_t, t).mean().item()

        low, high = -12.0, 3.0
        ratio = (5**0.5 - 1) / 2
        while high - low > 1e-7:
            left, right = high - ratio * (high - low), low + ratio * (high - low)
            low, high = (low, right) if bound(left) < bound(right) else (left, high)
        # A minimum found by values alone is good to √(machine precision) of the argument.
        assert table[step].item() == pytest.approx((low + high) / 2, abs=2e-6)


def test_analytic_variance_of_the_first_step_maximises_its_log_density():
    process = linear_process(8)
    x0 = 0.5 * torch.randn(64, 1, 2, 2, generator=generator(0, "data"), dtype=torch.float64)
    model = DenoisingModel(nonlinear, process, fixed_log_variance(process, "large"))
    errors = epsilon_errors(model, x0, seed=0).mean(1)
    best = analytic_log_variance(process, errors)[1].item()
    from mlegfn.diffusion.likelihood import image_noise

    t = torch.ones(64, dtype=torch.long)
    x_1 = process.noise(x0, t, image_noise(x0, range(64), 8, (0, "variance"))[0])

    def bound(log_variance):
        trial = torch.full((9,), log_variance, dtype=torch.float64)
        return DenoisingModel(nonlinear, process, trial).bound_terms(x0, x_1, t).mean().item()

    assert bound(best) < min(bound(best + 1e-3), bound(best - 1e-3))


@pytest.mark.parametrize("timesteps", [8, 1000])
def test_analytic_variance_of_the_exact_gaussian_is_the_exact_reverse_variance(timesteps):
    process, s2 = linear_process(timesteps), 0.3
    exact = exact_gaussian(process, s2)
    v = process.alpha_bar * s2 + 1 - process.alpha_bar
    # E‖ε − E[ε|x_t]‖² = Var[ε | x_t] = 1 − (1 − ᾱ_t)/v_t
    error = (1 - (1 - process.alpha_bar) / v)[1:]
    torch.testing.assert_close(
        analytic_log_variance(process, error)[1:], exact.log_variance[1:], rtol=1e-7, atol=1e-9
    )


def test_epsilon_errors_of_the_exact_gaussian():
    """Within 5 standard errors of Var[ε | x_t]; ε-errors of a Gaussian are Gaussian: se = √(2/N) of the mean."""
    process, s2, count = linear_process(8), 0.3, 4000
    x0 = s2**0.5 * torch.randn(count, 1, generator=generator(0, "x0"), dtype=torch.float64)
    v = process.alpha_bar * s2 + 1 - process.alpha_bar
    want = (1 - (1 - process.alpha_bar) / v)[1:]
    got = epsilon_errors(exact_gaussian(process, s2), x0).mean(1)
    assert ((got - want).abs() / (want * (2 / count) ** 0.5)).max() < 5


def test_learned_variances_interpolate_in_log_space():
    """Nichol & Dhariwal 2021, eq. 15, with v = (out + 1)/2: out −1 is β̃_t, 1 is β_t, 0 their geometric mean."""
    process = linear_process(8)
    t = torch.arange(1, 9)
    for out, share in ((-1.0, 0.0), (1.0, 1.0), (0.0, 0.5)):
        model = DenoisingModel(lambda x, time, out=out: torch.cat([x, torch.full_like(x, out)], 1), process)
        prediction = model.predict(torch.ones(8, 1, 2, 2, dtype=torch.float64), t)
        large, small = process.beta[1:].log(), fixed_log_variance(process, "small")[1:]
        want = share * large + (1 - share) * small
        torch.testing.assert_close(prediction.log_variance[:, 0, 0, 0], want, **TIGHT)
        assert prediction.eps.shape == (8, 1, 2, 2)


def test_respaced_model_asks_the_network_at_the_full_chains_times():
    seen = []

    def network(x, time):
        seen.append(time.clone())
        return x

    short = PROCESS.respaced(4)
    model = DenoisingModel(network, PROCESS, fixed_log_variance(PROCESS, "large"))
    on_short = model.with_process(short, fixed_log_variance(short, "large"))
    on_short.predict(torch.zeros(4, 1), torch.arange(1, 5))
    assert seen[0].tolist() == [2, 5, 8, 11]  # times 3, 6, 9, 12, counted from 0


# ---------------------------------------------------------------- sampling


def test_sample_pf_of_the_exact_gaussian_gives_the_data():
    """x_1's law is N(0, v_1) and x_0 its last mean; moments within 5 standard errors (bias ᾱ_T ~ 1e-5)."""
    process, s2, count = linear_process(50), 0.3, 20000
    model = exact_gaussian(process, s2)
    states = model.sample_pf((count, 1), generator(0, "pf"))
    assert states.shape == (51, count, 1)
    v = process.alpha_bar * s2 + 1 - process.alpha_bar
    for t in (50, 25, 1):
        assert states[t].mean().abs() < 5 * (v[t] / count) ** 0.5
        assert abs(states[t].var() / v[t] - 1) < 5 * (2 / count) ** 0.5
    want = s2 - model.log_variance[1].exp()  # Var(E[x_0|x_1]) = s² − E Var[x_0|x_1]
    assert abs(states[0].var() / want - 1) < 5 * (2 / count) ** 0.5


def test_sample_pf_keeps_what_it_is_asked_for():
    model = exact_gaussian(linear_process(8), 0.3)
    whole = model.sample_pf((3, 2), generator(0, "keep"))
    some = model.sample_pf((3, 2), generator(0, "keep"), keep=torch.tensor([8, 5, 0]))
    assert torch.equal(some, whole[[8, 5, 0]])


# ---------------------------------------------------------------- the order of images


@given(st.integers(1, 40), st.integers(1, 17), st.integers(1, 4))
@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
def test_every_epoch_sees_every_item_once(count, batch, epochs):
    steps = -(-count * epochs // batch)
    order = torch.cat([batch_indices(3, "order", step, batch, count) for step in range(steps)])
    assert len(order) == steps * batch
    for epoch in range(epochs):
        assert order[epoch * count : (epoch + 1) * count].sort().values.tolist() == list(range(count))
    # A resumed run asks for one step alone and gets the same items.
    assert torch.equal(batch_indices(3, "order", steps - 1, batch, count), order[-batch:])


def test_epochs_and_stages_are_shuffled_differently():
    first, second = (batch_indices(0, "a", step, 50, 50) for step in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, batch_indices(0, "b", 0, 50, 50))
    assert not torch.equal(first, batch_indices(1, "a", 0, 50, 50))


# ---------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: GaussianDiffusion([[0.1]]),
        lambda: GaussianDiffusion([0.1, 1.0]),
        lambda: GaussianDiffusion([0.1, 0.0]),
        lambda: GaussianDiffusion([0.1, float("nan")]),
        lambda: GaussianDiffusion([]),
        lambda: betas(0),
        lambda: betas(10, "quadratic"),
        lambda: PROCESS.respaced(13),
        lambda: PROCESS.respaced(0),
        lambda: PROCESS.marginal(torch.zeros(2, 1), 13),
        lambda: PROCESS.marginal(torch.zeros(2, 1), -1),
        lambda: PROCESS.marginal(torch.zeros(2, 1), torch.tensor([1, -1])),
        lambda: PROCESS.marginal(torch.zeros(2, 1), torch.tensor([1, 2, 3])),
        lambda: PROCESS.posterior(torch.zeros(2, 1), torch.zeros(2, 2), 3),
        lambda: PROCESS.noise(torch.zeros(2, 1), 3, torch.zeros(1)),
        lambda: PROCESS.log_pb(torch.zeros(2, 1), torch.zeros(3, 1), 3),
        lambda: PROCESS.trajectory_of(torch.zeros(2, 1), torch.zeros(11, 2, 1)),
        lambda: PROCESS.bridge(torch.zeros(1), torch.zeros(1), 3, 3, 5),
        lambda: PROCESS.bridge(torch.zeros(1), torch.zeros(1), -1, 3, 5),
        lambda: PROCESS.bridge(torch.zeros(1), torch.zeros(2), 1, 3, 5),
        lambda: PROCESS.sample_bridge(torch.zeros(1), torch.zeros(1), 5, 5, generator(0)),
        lambda: fixed_log_variance(PROCESS, "medium"),
        lambda: analytic_log_variance(PROCESS, torch.ones(11)),
        lambda: analytic_log_variance(PROCESS, torch.zeros(12)),
        lambda: analytic_log_variance(PROCESS, torch.full((12,), float("nan"))),
        lambda: batch_indices(0, "a", 0, 5, 0),
    ],
)
def test_misuse_is_a_value_error_with_a_sentence(misuse):
    with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
        misuse()


def test_normal_log_prob_sums_over_all_but_the_first_axis():
    x = torch.randn(3, 2, 2, generator=generator(0, "n"), dtype=torch.float64)
    log_variance = torch.tensor([0.1, -0.5, 2.0], dtype=torch.float64).view(3, 1, 1)
    want = torch.distributions.Normal(0.3, (0.5 * log_variance).exp()).log_prob(x).sum((1, 2))
    torch.testing.assert_close(
        normal_log_prob(x, torch.tensor(0.3, dtype=torch.float64), log_variance), want, **TIGHT
    )
