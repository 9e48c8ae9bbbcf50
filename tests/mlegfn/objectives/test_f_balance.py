"""f-trajectory balance: its gradient on-policy by enumeration, its minimum off-policy, its shape."""

import math

import pytest
import torch
from helpers.dag import Dag, exact
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlegfn.objectives.balance import trajectory_balance
from mlegfn.objectives.divergences import forward_kl, reverse_kl, tsallis
from mlegfn.objectives.f_balance import f_trajectory_balance
from mlegfn.randomness import generator

QUICK = hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
LOSSES = [
    ("reverse_kl", None),
    ("forward_kl", None),
    *(("tsallis", alpha) for alpha in (-0.5, 0.3, 0.5, 1.7, 3.0)),
]
SURROGATES = {"reverse_kl": reverse_kl, "forward_kl": forward_kl, "tsallis": tsallis}


def options(alpha):
    return {} if alpha is None else {"alpha": alpha}


def loss(delta, divergence, alpha=None, bound=math.inf):
    """ℓ(δ) itself: all of δ in log P_F."""
    zero = torch.zeros_like(delta)
    return f_trajectory_balance(delta, zero, zero, zero.sum(), divergence, bound=bound, **options(alpha))


@pytest.mark.parametrize("name, alpha", LOSSES)
def test_on_policy_its_gradient_is_that_of_the_divergence(name, alpha):
    """At the true log Z, with the gradient inside the expectation; the factor of one α is not that of another."""
    dag = Dag()
    log_z = (dag.log_reward + dag.log_pb).logsumexp(0)
    arguments = dag.log_pb, dag.log_reward, log_z, name

    def gradient(**more):
        losses = f_trajectory_balance(dag.log_pf, *arguments, **more)
        return dag.gradient((dag.log_pf.exp().detach() * losses).sum())

    torch.testing.assert_close(gradient(**options(alpha)), exact(dag, name, alpha), rtol=1e-8, atol=1e-10)
    if alpha is not None:
        wrong = gradient(alpha=alpha + 0.1)
        assert (wrong - exact(dag, name, alpha)).norm() > 0.01 * wrong.norm()


def off_policy(objective, steps=2000):
    """The tables after ``steps`` steps of Adam on one batch in which all six trajectories occur, some often: total
    variation of P_F from its target. The batch is fixed, so it is off-policy almost at once."""
    dag = Dag()
    rows = torch.tensor([0, 0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 5])
    log_z = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([*dag.parameters, log_z], lr=0.03, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    for _ in range(steps):
        optimiser.zero_grad()
        objective(dag.log_pf[rows], dag.log_pb[rows], dag.log_reward[rows], log_z).mean().backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return 0.5 * (dag.log_pf.exp() - dag.log_target.exp()).abs().sum().item()


@pytest.mark.parametrize("name, alpha", LOSSES)
def test_off_policy_it_still_ends_at_the_target(name, alpha):
    def objective(log_pf, log_pb, log_reward, log_z):
        return f_trajectory_balance(log_pf, log_pb, log_reward, log_z, name, **options(alpha))

    assert (
        off_policy(objective) < 1e-6
    )  # Adam's last steps are far smaller, 0.03/2000 times a shrinking ratio


SURROGATES_AND_CONTROL_VARIATES = [
    (n, cv) for n in SURROGATES for cv in ("none", "leave_one_out", "combined")
]


@pytest.mark.parametrize("name, control_variate", SURROGATES_AND_CONTROL_VARIATES)
def test_off_policy_the_divergences_surrogates_end_elsewhere(name, control_variate):
    """Why those must refuse such trajectories. ``combined``, which forward KL's leave-one-out is, does not: below."""

    def objective(log_pf, log_pb, log_reward, log_z):
        return SURROGATES[name](log_pf, log_pb, log_reward, control_variate=control_variate)

    if control_variate == "combined" or (name, control_variate) == ("forward_kl", "leave_one_out"):
        assert off_policy(objective, steps=600) < 1e-6
    else:
        assert off_policy(objective, steps=600) > 0.05


@pytest.mark.parametrize("name, alpha", LOSSES)
def test_combined_is_f_balance_at_the_batch_s_best_log_z(name, alpha):
    """For any batch: one baseline for both terms is what log Z is, where the mean of ℓ' is zero. So with
    ``combined`` the surrogates are valid off-policy, and only with it."""
    dag = Dag()
    rows = torch.tensor([0, 0, 2, 3, 5])
    s = (dag.log_pf - dag.log_pb - dag.log_reward)[rows].detach()
    k = {"reverse_kl": 0.0, "forward_kl": -1.0}.get(name) if alpha is None else alpha - 1
    log_z = -s.mean() if k == 0 else -((k * s).exp().mean().log() / k)  # E h(δ) = h(0)
    balance = dag.surrogate_gradient(
        lambda *batch: f_trajectory_balance(*batch, log_z, name, bound=math.inf, **options(alpha)).mean(),
        rows,
    )
    surrogate = dag.surrogate_gradient(SURROGATES[name], rows, control_variate="combined", **options(alpha))
    torch.testing.assert_close(
        surrogate / surrogate.norm(), balance / balance.norm(), rtol=1e-10, atol=1e-12
    )  # a positive factor apart: N/(N−1) and the scale


KINDS = st.sampled_from(["reverse_kl", "forward_kl", "tsallis"])
ALPHA = st.floats(-3, 3).filter(lambda alpha: abs(alpha - 1) > 1e-3 and abs(alpha) > 0.05)
DELTA = st.floats(-30, 30)


@QUICK
@given(KINDS, ALPHA, st.lists(DELTA, min_size=2, max_size=2), st.floats(0, 1), st.floats(0.1, 40))
def test_it_is_convex_and_zero_at_balance_alone(kind, alpha, ends, share, bound):
    """Rounding: ℓ is a difference of terms of about e^u and u, each right to 1 part in 10¹⁵."""
    alpha = alpha if kind == "tsallis" else None
    delta = torch.tensor([*ends, share * ends[0] + (1 - share) * ends[1], 0.0], dtype=torch.float64)
    a, b, between, zero = loss(delta, kind, alpha, bound)
    assert min(a, b, between) >= 0 and zero == 0
    assert between <= (share * a + (1 - share) * b) * (1 + 1e-12) + 1e-12
    assert all(value > 0 for value, d in zip((a, b), ends) if abs(d) > 1e-6)


@QUICK
@given(KINDS, ALPHA, DELTA, st.floats(0.1, 40))
def test_the_bound_changes_nothing_before_it_and_leaves_a_tangent(kind, alpha, delta, bound):
    alpha = alpha if kind == "tsallis" else None
    delta = torch.tensor([delta], dtype=torch.float64, requires_grad=True)
    rate = {"reverse_kl": 0, "forward_kl": -1}.get(kind) if alpha is None else alpha - 1
    exponent = (rate * delta).item()
    (slope,) = torch.autograd.grad(loss(delta, kind, alpha, bound), delta)
    (free,) = torch.autograd.grad(loss(delta, kind, alpha), delta)
    if exponent <= bound:
        torch.testing.assert_close(slope, free)
    else:
        factor = 1 if alpha is None else abs(alpha) / (alpha - 1) ** 2
        expected = factor * rate * math.expm1(bound)
        torch.testing.assert_close(slope, torch.full_like(slope, expected))


def test_alpha_near_one_is_reverse_kl_which_is_half_of_trajectory_balance():
    delta = torch.randn(20, generator=generator(0, "delta"), dtype=torch.float64)
    zero = torch.zeros(20, dtype=torch.float64)
    half = trajectory_balance(delta, zero, zero, zero.sum()) / 2
    torch.testing.assert_close(loss(delta, "reverse_kl"), half)
    # φ(kδ)/k² = δ²/2 + kδ³/6 + …, and |δ| < 3
    torch.testing.assert_close(loss(delta, "tsallis", 1 + 1e-4), half, rtol=1e-3, atol=1e-3)


def test_nothing_overflows():
    """10⁴ nats from balance, in float32, where e^89 is infinite."""
    log_pf = torch.tensor([-1e4, 1e4], requires_grad=True)
    zero = torch.zeros(2)
    for name, alpha in LOSSES:
        losses = f_trajectory_balance(log_pf, zero, zero, zero.sum(), name, **options(alpha))
        (gradient,) = torch.autograd.grad(losses.sum(), log_pf)
        assert losses.isfinite().all() and gradient.isfinite().all() and gradient.ne(0).all(), name


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda x: f_trajectory_balance(x, x, x, x[0], "tsallis", alpha=1), "use reverse_kl or forward_kl"),
        (lambda x: f_trajectory_balance(x, x, x, x[0], "tsallis", alpha=0), "use forward_kl"),
        (lambda x: f_trajectory_balance(x, x, x, x[0], "hellinger"), "no divergence 'hellinger'"),
        (lambda x: f_trajectory_balance(x, x, x, x[0], bound=0), "bound must be > 0"),
        (lambda x: f_trajectory_balance(x, x, x, x), "log_z must be"),
        (lambda x: f_trajectory_balance(x, x[:2], x, x[0]), "shapes do not match"),
        (lambda x: f_trajectory_balance(x, x, x * -torch.inf, x[0]), "log_reward holds −∞"),
        (lambda x: f_trajectory_balance(x, x, x, x[0] * math.nan), "not finite"),
    ],
)
def test_bad_input_is_a_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call(torch.ones(3, dtype=torch.float64))
