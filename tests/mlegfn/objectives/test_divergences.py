"""Each divergence's surrogate against its gradient by enumeration, and what the control variates do to its variance."""

import itertools

import pytest
import torch
from helpers.dag import Dag, draw, every, exact, expected

from mlegfn.objectives.balance import trajectory_balance
from mlegfn.objectives.control_variates import CONTROL_VARIATES, best_scalar, products
from mlegfn.objectives.divergences import forward_kl, renyi, reverse_kl, tsallis
from mlegfn.randomness import generator

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


@pytest.mark.parametrize("objective", (renyi, tsallis))
@pytest.mark.parametrize("alpha", ALPHAS)
def test_every_alpha_descends_to_the_target(dag, alpha, objective):
    """From sampled gradients, to either side of 0 and of 1: with the wrong sign, the target would be a maximum."""
    optimizer = torch.optim.Adam(dag.parameters, lr=0.05)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, 400)
    for step in range(400):
        rows = torch.multinomial(dag.log_pf.detach().exp(), 64, True, generator=generator(0, "descent", step))
        optimizer.zero_grad()
        value = objective(dag.log_pf[rows], dag.log_pb[rows], dag.log_reward[rows], alpha, "combined")
        value.backward()
        optimizer.step()
        schedule.step()
    assert (dag.log_pf.exp() - dag.log_target.exp()).abs().sum() < 1e-3, "from 1.08"


@pytest.mark.parametrize("alpha", ALPHAS)
def test_both_terms_together_are_alpha_times_the_second(dag, alpha):
    """E[∇g + g∇log p_F] = α E[g∇log p_F]: exactly, batch by batch."""
    rows = torch.tensor([0, 2, 2, 5])
    whole = (
        (alpha - 1)
        * (1 if alpha > 0 else -1)
        * dag.surrogate_gradient(tsallis, rows, alpha=alpha, control_variate="none")
    )
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


def near_balance(dag, log_z, weight):
    """Logits a part ``weight`` of theirs and the rest of those of the target, whose log Z becomes ``log_z``."""
    target = dag.log_target.exp().view(2, 3)
    with torch.no_grad():
        for logits, share in zip(dag.parameters, (target.sum(1), *target), strict=True):
            logits.mul_(weight).add_((1 - weight) * share.log())
    dag.log_reward = dag.log_reward - (dag.log_reward + dag.log_pb).logsumexp(0) + log_z


@pytest.mark.parametrize("log_z", [0.3, 0.5])
@pytest.mark.parametrize(
    "objective, options",
    [(reverse_kl, {}), (tsallis, {"alpha": 0.5, "log_scale": 0.0}), (renyi, {"alpha": 0.5})],
)
def test_the_default_has_less_variance_than_none_and_leave_one_out_more(dag, objective, options, log_z):
    """Near balance: the first term's noise, which ``leave_one_out`` keeps, is most of the variance there is."""
    near_balance(dag, log_z, 0.1)
    found = {cv: trace(dag, objective, cv, **options) for cv in ("none", "leave_one_out", "combined")}
    assert found["combined"] < 0.2 * found["none"] < 0.2 * found["leave_one_out"]
    assert expected(dag, objective, 3, **options)[1] == found["combined"], "the default"


@pytest.mark.parametrize("log_z", [0.0, 0.3, 3.0])
def test_what_is_left_of_the_variance_of_reverse_kl_at_balance(dag, log_z):
    """In units of the variance of ∇log P_F: (1 − log Z)², 1 and 0."""
    near_balance(dag, log_z, 0.0)
    found = {cv: trace(dag, reverse_kl, cv) for cv in ("none", "leave_one_out", "combined")}
    assert found["none"] == pytest.approx((1 - log_z) ** 2 * found["leave_one_out"], rel=1e-9)
    assert found["leave_one_out"] > 0.1 and found["combined"] < 1e-12


def test_without_a_first_term_the_default_is_leave_one_out(dag):
    rows = torch.tensor([0, 2, 5])
    default, paper = (
        dag.surrogate_gradient(forward_kl, rows),
        dag.surrogate_gradient(forward_kl, rows, control_variate="leave_one_out"),
    )
    assert torch.equal(default, paper)


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


def deviations(dag, objective, batch, control_variate, **options):
    """[500]: N |gradient − its mean|² of each of a fixed set of batches; N × the covariance's trace on average."""
    options |= {"control_variate": control_variate, "parameters": dag.parameters}
    gradients = [dag.surrogate_gradient(objective, rows, **options) for rows in draw(dag, batch, 500)]
    gradients = torch.stack(gradients)
    return batch * (gradients - gradients.mean(0)).square().sum(1)


def error(values):
    return (values.std() / len(values) ** 0.5).item()


@pytest.mark.parametrize(
    "objective, options",
    [
        (reverse_kl, {}),
        (tsallis, {"alpha": 0.5, "log_scale": 0.0}),
        (tsallis, {"alpha": 2.0, "log_scale": 0.0}),
    ],
    ids=["reverse_kl", "tsallis 0.5", "tsallis 2"],
)
def test_the_variance_falls_in_batches_of_64(dag, objective, options):
    """By more than three standard errors of the difference on the same batches. Reverse KL with log Z far from 0, as
    it is before anything is known of it."""
    dag.log_reward = dag.log_reward + (5 if objective is reverse_kl else 0)
    found = {cv: deviations(dag, objective, 64, cv, **options) for cv in CONTROL_VARIATES}

    def lower(one, than):
        difference = found[than] - found[one]
        return difference.mean().item() > 3 * error(difference)

    # Without a control variate, N × trace is that of one trajectory for any N: the averages are what they say.
    one = expected(dag, objective, 1, control_variate="none", **options)[1]
    assert found["none"].mean().item() == pytest.approx(one, abs=3 * error(found["none"]))
    assert all(lower(cv, "none") for cv in ("leave_one_out", "both_signed", "combined"))
    if objective is reverse_kl:
        assert lower("both_signed", "leave_one_out") and lower("combined", "leave_one_out")
    else:
        assert lower("both_signed", "both"), "the paper's scalar is far too large"
        # With α < 1 the first term's noise cancels some of the second's: taken away alone, it is missed.
        assert lower("none", "score") and lower("none", "score_signed") == (options["alpha"] < 1)


@pytest.mark.parametrize("signed", [False, True])
def test_both_products_are_unbiased(dag, signed):
    """Over all 216 batches of three, of which one sign more is + than −."""
    dag.log_pb = dag.log_pb.flip(0)  # any f will do

    def f(log_pf, rows):
        return (0.5 * (log_pf - dag.log_pb[rows])).exp()

    inner, square = 0.0, 0.0
    for rows in itertools.product(range(6), repeat=3):
        rows = torch.tensor(rows)
        log_pf = dag.log_pf[rows]
        weight = log_pf.detach().sum().exp()
        one, two = products(f(log_pf, rows), log_pf, dag.parameters, signed)
        inner, square = inner + weight * one, square + weight * two
    log_pf, rows = dag.log_pf, torch.arange(6)
    scores = torch.stack([dag.gradient(x, retain_graph=True) for x in log_pf])
    firsts = torch.stack([dag.gradient(x, retain_graph=True) for x in f(log_pf, rows)])
    probability = log_pf.detach().exp()
    torch.testing.assert_close(inner, 3 * (probability @ (firsts * scores).sum(1)))
    torch.testing.assert_close(square, 3 * (probability @ (scores * scores).sum(1)))


def scalars(dag, batch, signed):
    """[500], and the size of what they take from the gradient in the mean, a mean(∇log P_F), as a part of its own."""
    found, taken = [], 0.0
    for rows in draw(dag, batch, 500):
        log_pf = dag.log_pf[rows]
        g = (log_pf - dag.log_pb[rows] - dag.log_reward[rows]).exp()
        found.append(best_scalar(g, log_pf, dag.parameters, signed))
        taken = taken + found[-1] * dag.gradient(log_pf.mean()) / 500
    return torch.stack(found), (taken.norm() / exact(dag, "tsallis", 2.0).norm()).item()


def test_the_paper_s_scalar_grows_with_the_batch_and_is_biased_and_the_signed_one_is_not(dag):
    """α = 2; from 16 to 256 trajectories √N grows by 4. 500 batches: a median is right to some 6 %, what is taken from
    the mean gradient to some 2 % of it, 1/√500 of the length of one."""
    dag.log_reward = dag.log_reward - (dag.log_reward + dag.log_pb).logsumexp(0)  # Z = 1, as in ``exact``
    (few, few_taken), (many, many_taken) = (scalars(dag, batch, signed=False) for batch in (16, 256))
    assert 3 < many.abs().median() / few.abs().median() < 6
    assert min(few_taken, many_taken) > 0.1
    (few, _), (many, many_taken) = (scalars(dag, batch, signed=True) for batch in (16, 256))
    assert 0.8 < many.median() / few.median() < 1.25
    assert many_taken < 0.05


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda x: renyi(x, x, x, alpha=1), "use reverse_kl or forward_kl"),
        (lambda x: tsallis(x, x, x, alpha=1.0), "use reverse_kl or forward_kl"),
        (lambda x: tsallis(x, x, x, alpha=0), "its limit is forward_kl"),
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
