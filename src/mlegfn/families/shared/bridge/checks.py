"""What is measured of the Schrödinger bridge: Gaussians, whose bridge is known, and POT's entropic transport."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch

from mlegfn.families.shared.bridge.gaussian import Chain, Gaussian, bridge_moments, coupling
from mlegfn.families.shared.bridge.policies import step_variances
from mlegfn.families.shared.comparing import gradient, relative
from mlegfn.families.shared.family import Check
from mlegfn.randomness import generator
from mlegfn.trajectory import score

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypedDict

    from torch import Tensor

    from mlegfn.families.bridge import Bridge
    from mlegfn.families.shared.family import Settings

    class Descent(TypedDict):
        """How many iterations of both half-steps, and what ``settings`` are replaced by."""

        iterations: int
        steps: int
        batch: int
        lr: float

    Moments = tuple[Tensor, Tensor]  # mean, covariance
    Iteration = tuple[Chain, Chain, float, float]  # of ``exact_iterations``

__all__ = ["all_checks", "brownian", "descended", "ends", "exact_iterations", "fraction", "standard_errors"]

VARIANCE = 1.0  # σ² of the reference between the Gaussians below
ITERATIONS = 60  # of exact half-steps: ρ₁² = 0.37 an iteration, so rounding is reached after 40
# By gradient descent: the mean's error after 4 iterations is 0.002, far below the Monte Carlo error.
DESCENT: Descent = {"iterations": 4, "steps": 1600, "batch": 2048, "lr": 0.05}


def ends() -> tuple[Gaussian, Gaussian]:
    """(p_0, p_T) in the plane: neither is isotropic, their axes and means differ."""
    p_0 = Gaussian(tensor([1.0, -0.5]), tensor([[1.0, 0.6], [0.6, 0.8]]))
    p_T = Gaussian(tensor([-1.0, 0.5]), tensor([[0.7, -0.3], [-0.3, 1.2]]))
    return p_0, p_T


def tensor(values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def fraction(variances: Tensor) -> Tensor:
    """[T+1]: how much of σ² has passed at x_0, …, x_T."""
    return torch.cat([tensor([0.0]), variances.cumsum(0)]) / variances.sum()


def brownian(start: Gaussian, variances: Tensor) -> Chain:
    """The reference as a ``Chain`` from ``start``."""
    steps, d = len(variances), len(start.mean)
    eye = torch.eye(d, dtype=torch.float64).expand(steps, d, d)
    return Chain(start, eye, torch.zeros(steps, d, dtype=torch.float64), variances[:, None, None] * eye)


def exact_iterations(
    p_0: Gaussian, p_T: Gaussian, variances: Tensor, iterations: int, fixed: bool = False
) -> list[Iteration]:
    """Each iteration's (P_F, P_B, largest error of the mean and of the covariance of P_F over all times)."""
    mean, cov = bridge_moments(p_0, p_T, variances.sum().item(), fraction(variances))
    p_f, out = brownian(p_T, variances.flip(0)), []
    for _ in range(iterations):
        p_b = p_f.reversed(p_0, brownian(p_0, variances).noise if fixed else None)
        p_f = p_b.reversed(p_T, brownian(p_T, variances.flip(0)).noise if fixed else None)
        of_mean, of_cov = ((a.flip(0) - b).abs().max().item() for a, b in zip(p_f.moments(), (mean, cov)))
        out.append((p_f, p_b, of_mean, of_cov))
    return out


def standard_errors(cov: Tensor, count: int) -> Moments:
    """Of the mean [..., d] and the covariance [..., d, d] of ``count`` Gaussian draws."""
    diagonal = cov.diagonal(dim1=-2, dim2=-1)
    outer = diagonal[..., :, None] * diagonal[..., None, :]
    return (diagonal / count).sqrt(), ((outer + cov.square()) / count).sqrt()


def descended(
    family: type[Bridge],
    settings: Settings,
    variances: Tensor,
    seed: int,
    iterations: int,
    **training: float,
) -> tuple[list[Tensor], Moments, int]:
    """A bridge between Gaussians trained on samples, as the planar one is: (moments [T+1, …] of P_F, of P_B, how
    many trajectories a half-step saw)."""
    p_0, p_T = ends()
    model = family.affine(p_T, variances)
    settings = settings.model_copy(update=training)
    count = model.iterate(p_0.sample, settings, iterations, seed, "bridge", "descent")
    p_f, p_b = model.chains(p_0)
    return [x.flip(0) for x in p_f.moments()], p_b.moments(), count


def deviation(moments: Iterable[Tensor], expected: Moments, count: int, iterations: int) -> float:
    """The largest error of a mean or covariance, in standard errors of what 2·``iterations`` half-steps on
    ``count`` trajectories give.

    A half-step on a sample takes over the sample's moments, and what it adds *inside* the path no later one takes
    back (they restore the ends alone), so the variances of all of them add up. That is an upper bound: repeated
    with least squares instead of descent, the largest standard deviation of this ratio was 0.8.
    """
    errors = standard_errors(expected[1], count)
    ratios = [
        (a - b).abs() / e / math.sqrt(2 * iterations)
        for a, b, e in zip(moments, expected, errors, strict=True)
    ]
    return max(r.max().item() for r in ratios)


def all_checks(family: type[Bridge], settings: Settings) -> list[Check]:
    variances = step_variances(settings.timesteps, VARIANCE)
    p_0, p_T = ends()
    run = exact_iterations(p_0, p_T, variances, ITERATIONS)
    expected = bridge_moments(p_0, p_T, VARIANCE, fraction(variances))
    return [
        half_step_is_regression(family),
        *closed_form(run, expected),
        rate(run),
        one_measure(family, variances, run[-1]),
        entropic_plan(),
        fixed_variances(),
        descent(family, settings, variances, expected),
    ]


def half_step_is_regression(family: type[Bridge]) -> Check:
    """The gradient of the trajectory KL in P_B, and of the regression that De Bortoli et al. iterate."""
    model = family.tiny()
    with torch.no_grad():
        model.backward_policy.whitening.zero_()  # the reference's own variances, as theirs
    states = model.sample_pf((256, *model.shape), generator(0, "bridge", "half-step"))
    trajectory = score(model, states)
    kl = (trajectory.log_prior + (trajectory.log_pf - trajectory.log_pb).sum(0)).mean()
    mean_matching: Tensor | float = 0.0
    for t in range(1, model.timesteps + 1):
        residual = states[t] - model.backward_policy.mean(states[t - 1], torch.full((256,), t - 1))
        mean_matching += residual.square().sum(1).mean() / (2 * model.backward_policy.std[t - 1] ** 2)
    parameters = list(model.backward_policy.drift.parameters())
    gradients = [gradient(loss, parameters) for loss in (kl, cast("Tensor", mean_matching))]
    return Check(
        "gradients in P_B of D_KL(P_F‖P_B) and of IPF's mean matching, the same trajectories",
        relative(*gradients),
        1e-10,  # float64, sums of 256 × T terms
    )


def closed_form(run: Sequence[Iteration], expected: Moments) -> list[Check]:
    _, p_b, mean_error, cov_error = run[-1]
    backward = max((a - b).abs().max().item() for a, b in zip(p_b.moments(), expected))
    what = "exact half-steps between Gaussians: {} against the closed form, mean and covariance at every time"
    return [
        # Moments of order 1, condition numbers of order 10.
        Check(what.format("P_F"), max(mean_error, cov_error), 1e-12, "absolute"),
        Check(what.format("P_B"), backward, 1e-12, "absolute"),
    ]


def rate(run: Sequence[Iteration]) -> Check:
    """Linearised at its limit, an iteration multiplies what is wrong by the square of the conditional expectation
    between the ends: ρ₁² for the mean and ρ₁⁴ for the covariance, ρ the canonical correlations of (x_0, x_T).
    The next modes are smaller by (ρ₂/ρ₁)² an iteration, the tolerance for weights of order 1."""
    p_0, p_T = ends()
    inverse = [torch.linalg.inv(torch.linalg.cholesky(p.cov)) for p in (p_0, p_T)]
    rho = torch.linalg.svdvals(inverse[0] @ coupling(p_0.cov, p_T.cov, VARIANCE) @ inverse[1].T)
    n = 10  # the covariance's error is then 1e-10, well above rounding
    errors = [
        new / old / (rho[0].item() ** power) - 1
        for new, old, power in zip(run[n][2:], run[n - 1][2:], (2, 4))
    ]
    return Check(
        f"IPF's rate at iteration {n}: ρ₁² (mean) and ρ₁⁴ (covariance), ρ₁ the bridge's first canonical correlation",
        max(abs(e) for e in errors),
        5 * (rho[1] / rho[0]).item() ** (2 * n),
    )


def one_measure(family: type[Bridge], variances: Tensor, last: Iteration) -> Check:
    """P_F and P_B at the limit, as the family's own policies: log w(τ) − log p(x_0) on trajectories of both."""
    p_0, p_T = ends()
    model = family.affine(p_T, variances)
    p_f, p_b = last[:2]
    model.set_chains(p_f, p_b)
    forward = model.sample_pf((1000, 2), generator(0, "bridge", "forward"))
    backward = model.sample_pb(
        p_0.sample(1000, generator(0, "bridge", "data")), generator(0, "bridge", "backward")
    )
    with torch.no_grad():
        states = torch.cat([forward, backward], 1)
        error = (score(model, states).log_w - p_0.log_prob(states[0])).abs().max().item()
    # A sum of 2T + 1 log-densities, |log P| of order 10 and z of order 4 from differences of states.
    return Check("at the limit, log w(τ) = log p(x_0) for every τ: largest of 2000", error, 1e-10, "nats")


def entropic_plan(weight: float = 2 * VARIANCE) -> Check:
    """P_F's joint law of its ends on a grid, and POT's plan of cost |x − y|² with ``weight`` on the entropy."""
    import ot

    p_0, p_T = (Gaussian(p.mean[:1], p.cov[:1, :1]) for p in ends())
    p_f, *_ = exact_iterations(p_0, p_T, step_variances(4, VARIANCE), ITERATIONS)[-1]
    # Out to 7.5 standard deviations; the trapezoidal rule of Gaussians is exact to rounding at this spacing.
    x, y = (
        p.mean + p.cov.sqrt()[0] * torch.linspace(-7.5, 7.5, 181, dtype=torch.float64) for p in (p_0, p_T)
    )
    a, b = (p.log_prob(z[:, None]).softmax(0) for p, z in ((p_0, x), (p_T, y)))
    plan = ot.sinkhorn(a, b, (x[:, None] - y).square(), reg=weight, stopThr=1e-14, numItermax=1000)
    cross = p_f.end_cross_covariance()
    joint = Gaussian(
        torch.cat([p_0.mean, p_T.mean]),
        torch.cat([torch.cat([p_f.moments()[1][-1], cross], 1), torch.cat([cross.T, p_T.cov], 1)]),
    )
    law = joint.log_prob(torch.cartesian_prod(x, y)).softmax(0).view_as(plan)
    return Check(
        "law of (x_0, x_T) on a grid against POT's entropic plan (1-D): total variation",
        (plan - law).abs().sum().item() / 2,
        1e-10,  # 181² entries, and Sinkhorn's stopping
        "probability",
    )


def fixed_variances() -> Check:
    """With the reference's variance in every step, as De Bortoli et al. have it, the policies cannot be the
    bridge's at a finite T; how fast that vanishes."""
    errors = [
        exact_iterations(*ends(), step_variances(T, VARIANCE), 4, fixed=True)[-1][3] for T in (64, 128, 256)
    ]
    slopes = [math.log2(b / a) for a, b in zip(errors, errors[1:])]
    return Check(
        f"policies of fixed variance: error of the covariance after 4 iterations, {errors[0]:.3f} at T = 64, "
        "falls as 1/T: slope in log T, −1",
        abs(slopes[-1] + 1),
        0.1,  # the next order is 1/T relative to the first, times about 10 of these
        "absolute",
    )


def descent(family: type[Bridge], settings: Settings, variances: Tensor, expected: Moments) -> Check:
    *moments, count = descended(family, settings, variances, 0, **DESCENT)
    worst = max(deviation(m, expected, count, DESCENT["iterations"]) for m in moments)
    return Check(
        "half-steps by gradient descent on samples: P_F and P_B against the closed form at every time",
        worst,
        5.0,  # of some 5(T + 1) numbers, and descent on batches adds about as much as the sample does
        "standard errors",
    )
