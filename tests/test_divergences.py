"""Each divergence's surrogate against its gradient by enumeration, and what the control variates do to its variance."""

import pytest
import torch
from dag import Dag, every, exact, expected

from mlegfn.objectives.balance import trajectory_balance
from mlegfn.objectives.divergences import forward_kl, renyi, reverse_kl, tsallis

ALPHAS = (-2.0, -0.5, 0.5, 2.0)
UNBIASED = ("none", "leave_one_out", "combined")


@pytest.fixture
def dag():
    return Dag()


OBJECTIVES = [
    ("reverse_kl", reverse_kl, None),
    ("forward_kl", forward_kl, None),
    *(("tsallis", tsallis, alpha) for alpha in ALPHAS),
]


@pytest.mark.parametrize("control_variate", UNBIASED)
@pytest.mark.parametrize("name, objective, alpha", OBJECTIVES)
def test_the_expected_gradient_is_that_of_the_divergence(dag, name, objective, alpha, control_variate):
    """Over all 36 batches of two. The scale is fixed here, so that the batch's own does not weight batches."""
    log_z = (dag.log_reward + dag.log_pb).logsumexp(0)
    options = {"control_variate": control_variate}
    if name == "tsallis":  # e^{(α−1)s} / e^{scale} = (P_F/p̄_B)^{α−1} where scale = −(α−1) log Z
        options |= {"alpha": alpha, "log_scale": -(alpha - 1) * log_z}
    elif name == "forward_kl":
        options |= {"log_scale": log_z}
    gradient, _ = expected(dag, objective, 2, **options)
    torch.testing.assert_close(gradient, exact(dag, name, alpha), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_renyi_s_gradient_is_that_of_the_divergence(dag, alpha):
    """E[g] stands in a denominator, so the batch must be the whole space."""
    rows = every(dag)
    gradient = dag.surrogate_gradient(renyi, rows, alpha=alpha, control_variate="none")
    torch.testing.assert_close(gradient, exact(dag, "renyi", alpha), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_both_terms_together_are_alpha_times_the_second(dag, alpha):
    """E[∇g + g∇log p_F] = α E[g∇log p_F]: exactly, batch by batch."""
    rows = torch.tensor([0, 2, 2, 5])
    whole = (alpha - 1) * dag.surrogate_gradient(tsallis, rows, alpha=alpha, control_variate="none")
    log_pf = dag.log_pf[rows]
    g = ((alpha - 1) * (log_pf - dag.log_pb[rows] - dag.log_reward[rows])).detach()
    second = dag.gradient(((g - g.max()).exp() * log_pf).mean())
    torch.testing.assert_close(whole, alpha * second, rtol=1e-10, atol=1e-12)


def test_trajectory_balance_is_twice_reverse_kl(dag):
    """On-policy, at the true log Z, with the gradient inside the expectation (Proposition 1)."""
    log_z = (dag.log_reward + dag.log_pb).logsumexp(0)
    losses = trajectory_balance(dag.log_pf, dag.log_pb, dag.log_reward, log_z)
    inside = dag.gradient((dag.log_pf.exp().detach() * losses).sum())
    torch.testing.assert_close(inside, 2 * exact(dag, "reverse_kl"), rtol=1e-8, atol=1e-10)
    outside = dag.gradient(
        (dag.log_pf.exp() * trajectory_balance(dag.log_pf, dag.log_pb, dag.log_reward, log_z)).sum()
    )
    assert (outside - 2 * exact(dag, "reverse_kl")).abs().max() > 0.01, "with it outside, it is not"


def trace(dag, objective, control_variate, **options):
    """The exact trace of the gradient's covariance, over all 216 batches of three."""
    if control_variate in ("score", "both"):
        options["parameters"] = dag.parameters
    return expected(dag, objective, 3, control_variate=control_variate, **options)[1]


def test_leave_one_out_lowers_the_variance_of_reverse_kl(dag):
    """With log Z far from 0, as it is before anything is known of it; the first term's noise goes too."""
    dag.log_reward = dag.log_reward + 5
    found = {cv: trace(dag, reverse_kl, cv) for cv in ("none", "leave_one_out", "both", "combined")}
    assert found["leave_one_out"] < 0.1 * found["none"]
    assert found["combined"] < found["leave_one_out"]
    assert found["both"] == pytest.approx(found["combined"], rel=1e-6), (
        "∇f = ∇log p_F: a* = 1 takes all of it"
    )


def test_leave_one_out_over_corrects_and_one_baseline_for_both_terms_does_not(dag):
    found = {
        cv: trace(dag, tsallis, cv, alpha=0.5, log_scale=0.0) for cv in ("none", "leave_one_out", "combined")
    }
    assert found["leave_one_out"] > found["none"] > found["combined"]


def test_the_score_function_s_scalar_minimises_what_it_leaves(dag):
    """a* is the projection of Σ∇f on Σ∇log p_F: nothing along it is left of the first term."""
    rows = torch.tensor([0, 1, 3, 3, 5])
    options = {"alpha": 0.5, "parameters": dag.parameters, "log_scale": 0.0}
    with_cv, without = (
        dag.surrogate_gradient(tsallis, rows, control_variate=cv, **options) for cv in ("score", "none")
    )
    direction = dag.gradient(dag.log_pf[rows].sum())
    # (α−1)·5 turns the surrogate's gradient into batch sums; the second term is the same in both.
    removed = (without - with_cv) * -0.5 * 5
    g = -0.5 * (dag.log_pf[rows] - dag.log_pb[rows] - dag.log_reward[rows])
    first = dag.gradient(g.exp().sum())
    torch.testing.assert_close(removed, (first @ direction) / (direction @ direction) * direction)
    assert abs(((first - removed) @ direction).item()) < 1e-6 * (first.norm() * direction.norm()).item()


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda x: renyi(x, x, x, alpha=1), "use reverse_kl or forward_kl"),
        (lambda x: tsallis(x, x, x, alpha=1.0), "use reverse_kl or forward_kl"),
        (lambda x: reverse_kl(x, x[:2], x), "shapes do not match"),
        (lambda x: reverse_kl(x, x, x * -torch.inf), "log_reward"),
        (lambda x: forward_kl(x * torch.nan, x, x), "not finite"),
        (lambda x: reverse_kl(x, x, x, control_variate="loo"), "no control variate 'loo'"),
        (lambda x: reverse_kl(x, x, x, control_variate="score"), "needs the policy's parameters"),
        (lambda x: reverse_kl(x[:1], x[:1], x[:1]), "at least two trajectories"),
    ],
)
def test_bad_input_is_a_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call(torch.ones(3, dtype=torch.float64))


def test_nothing_overflows():
    """Log-weights of ±10⁴ nats, as an untrained policy on a peaked reward has."""
    log_pf = torch.tensor([-1e4, -2.0, -3.0], requires_grad=True)
    log_reward = torch.tensor([-1e4, 1e4, 0.0])
    for objective in (forward_kl, tsallis, renyi):
        (gradient,) = torch.autograd.grad(objective(log_pf, torch.zeros(3), log_reward), log_pf)
        assert gradient.isfinite().all() and gradient.any()
