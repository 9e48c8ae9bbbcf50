"""Proposition 4, measured: detailed balance over a step of size h, squared, over h → score matching as h → 0.

Our reading. With state flows F(x, t) = p_t(x), and the step of the noising SDE x_t = x_{t−h} + f h + g√h ε,

    δ = log F(x_t) + log P_F(x_{t−h}|x_t) − log F(x_{t−h}) − log P_B(x_t|x_{t−h})
      = √h g ε·(∇log p_t − s_θ) + O(h),          E δ²/h = g² E‖s_θ − ∇log p_t‖² + O(h),

and with the flows F(x, t | x_0) = q(x_t|x_0) of one x_0, ∇log q(x_t|x_0) in place of ∇log p_t: denoising
score matching. docs/math.md has the steps between.

The expectations have no Monte-Carlo noise. Data are four points on the line, so p_t is a mixture of four
Gaussians and x_{t−h} given x_0 and ε are Gaussian: Gauss–Hermite quadrature. The score is a small random
network's, far from ∇log p_t, so the limit is not 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from mlegfn.families.shared.comparing import gradient, relative, slope
from mlegfn.families.shared.family import Check
from mlegfn.randomness import seed_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from mlegfn.families.shared.diffusion.score import ScoreSDE

    Stepper = Callable[[float, float], ScoreSDE]

__all__ = ["SIZES", "checks", "detailed_balance", "differences", "limit", "stepper"]

POINTS = torch.tensor([-1.5, -0.3, 0.4, 1.2], dtype=torch.float64)
MASS = torch.tensor([0.2, 0.3, 0.4, 0.1], dtype=torch.float64)
SIZES = [2.0**-k for k in range(3, 11)]
# The whole noising takes 8 units of time. Then β h (VP) and h·d log σ²/dt (VE) are below 0.16 at h = 1/8, a
# small step already; over a horizon of 1 they would be above 1, and no straight line would begin before h =
# 2^-6.
HORIZON = 8.0
TIMES = (4.0, 5.0, 6.0)
NODES = 64


class _SmallNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            seed_layers(0, "proposition 4")
            self.layers = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        out: Tensor = self.layers(torch.cat([x, place[:, None]], 1))
        return out


def stepper(cls: type[ScoreSDE]) -> Stepper:
    """f(t, h) → the family ``cls`` in one dimension, a step from t − h to t, always with the same network."""
    network = _SmallNetwork().double()
    return lambda t, h: cls(network, [t - h, t], dimensions=1, horizon=HORIZON, dtype=torch.float64)


def _hermite() -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def _log_q(model: ScoreSDE, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """log q(x_t|x_0) [N, 4] of each point x_0 at x [N], and its derivative in x."""
    u = model.level(torch.tensor(t, dtype=torch.float64))
    offset = (x[:, None] - model.scale(u) * POINTS) / model.std(u)
    return -offset.square() / 2 - model.std(u).log() - math.log(2 * math.pi) / 2, -offset / model.std(u)


def _flow(model: ScoreSDE, x: Tensor, t: float, origin: Tensor | None) -> tuple[Tensor, Tensor]:
    """log F and its derivative, [N] each: of x's own x_0 (index ``origin`` [N]), or with None of all data."""
    log_q, gradient = _log_q(model, x, t)
    if origin is not None:
        return log_q.gather(1, origin[:, None])[:, 0], gradient.gather(1, origin[:, None])[:, 0]
    posterior = (log_q + MASS.log()).softmax(1)
    return (log_q + MASS.log()).logsumexp(1), (posterior * gradient).sum(1)


def _states(model: ScoreSDE, t: float) -> tuple[Tensor, Tensor, Tensor]:
    """x_t [4·NODES] of the noising of every point, their probabilities, and the points' indices."""
    z, weight = _hermite()
    u = model.level(torch.tensor(t, dtype=torch.float64))
    x = model.scale(u) * POINTS[:, None] + model.std(u) * z
    origin = torch.arange(len(POINTS))[:, None].expand_as(x)
    return x.flatten(), (MASS[:, None] * weight).flatten(), origin.flatten()


def detailed_balance(
    model: ScoreSDE,
    t: float,
    h: float,
    conditional: bool,
    flow: Callable[[ScoreSDE, Tensor, float, Tensor | None], tuple[Tensor, Tensor]] = _flow,
) -> Tensor:
    """E δ²/h, a scalar: x_0 of the data, x_{t−h} ~ q(·|x_0), x_t ~ P_B(·|x_{t−h}).

    conditional: whether flows are F(x, t|x_0), else F(x, t).
    """
    z, weight = _hermite()
    origin: Tensor | None
    before, mass, origin = (v.repeat_interleave(NODES) for v in _states(model, t - h))
    step = torch.ones(len(before), dtype=torch.int64)
    mean, variance = model._noised(before[:, None], step)
    after = mean[:, 0] + variance[:, 0].sqrt() * z.repeat(len(mean) // NODES)
    origin = origin if conditional else None
    pair = before[:, None], after[:, None], step
    residual = (
        flow(model, after, t, origin)[0]
        + model.log_pf(*pair)
        - flow(model, before, t - h, origin)[0]
        - model.log_pb(*pair)
    )
    return (mass * weight.repeat(len(mass) // NODES) * residual.square()).sum() / h


def limit(model: ScoreSDE, t: float, conditional: bool) -> Tensor:
    """g² E‖s_θ − ∇log F‖², a scalar: (denoising) score matching at time t."""
    x, mass, origin = _states(model, t)
    target = _flow(model, x, t, origin if conditional else None)[1]
    time = torch.tensor(t, dtype=torch.float64)
    score = model.score(x[:, None], model.level(time).expand(len(x)))[:, 0]
    return model.diffusion2(time) * (mass * (score - target).square()).sum()


def _balances(step: Stepper, h: float, conditional: bool) -> Tensor:
    """[3]: E δ²/h at TIMES."""
    return torch.stack([detailed_balance(step(t, h), t, h, conditional) for t in TIMES])


def _limits(step: Stepper, conditional: bool) -> Tensor:
    return torch.stack([limit(step(t, SIZES[0]), t, conditional) for t in TIMES])


def differences(cls: type[ScoreSDE], conditional: bool) -> list[float]:
    """|E δ²/h − limit| / limit, a mean over TIMES, for each h of SIZES."""
    step = stepper(cls)
    with torch.no_grad():
        exact = _limits(step, conditional)
        return [((_balances(step, h, conditional) - exact).abs() / exact).mean().item() for h in SIZES]


def _gradients(step: Stepper, values: Iterable[Tensor]) -> Tensor:
    """[len(values), parameters]: of the sum over TIMES of each."""
    parameters = list(step(TIMES[0], SIZES[0]).parameters())
    return torch.stack([gradient(value.sum(), parameters) for value in values])


def checks(cls: type[ScoreSDE]) -> list[Check]:
    """The rows of Table 1 for Proposition 4.

    The difference is c₁h + c₂h² + …, relative to the limit, with coefficients made of the schedule's rates,
    which are about 1 a unit of time: 4h and, with c₁h cancelled, (4h)² are generous to constants and not to
    orders. The slope between neighbours h is 1 + O(h); a least-squares line through all of them bends by less
    than half of its largest h.
    """
    smallest, rows, gradients = SIZES[-1], [], []
    for conditional, name in ((False, "score matching"), (True, "denoising score matching")):
        measured, step = differences(cls, conditional), stepper(cls)
        fine, coarse = (_balances(step, h, conditional) for h in (smallest, 2 * smallest))
        exact = _limits(step, conditional)
        of_fine, of_coarse, of_exact = _gradients(step, (fine, coarse, exact))
        gradients.append(of_exact)
        rows += [
            (
                f"slope of |DB/h − {name}| over h = 2^-3…2^-10, minus 1",
                slope(list(zip(SIZES, measured))) - 1,
                SIZES[0] / 2,
                "absolute",
            ),
            (
                f"slope of |DB/h − {name}| from h = 2^-9 to 2^-10, minus 1",
                math.log2(measured[-2] / measured[-1]) - 1,
                4 * 2 * smallest,
                "absolute",
            ),
            (f"DB/h at h = 2^-10, and {name}", measured[-1], 4 * smallest, "relative"),
            (
                f"gradients of DB/h at h = 2^-10, and of {name}",
                relative(of_fine, of_exact),
                4 * smallest,
                "relative",
            ),
            (
                f"DB/h extrapolated to h = 0, and {name}",
                relative(2 * fine - coarse, exact),
                (4 * smallest) ** 2,
                "relative",
            ),
            (
                f"gradients of DB/h extrapolated to h = 0, and of {name}",
                relative(2 * of_fine - of_coarse, of_exact),
                (4 * smallest) ** 2,
                "relative",
            ),
        ]
    checked = [Check(what, abs(value), tolerance, unit, 4) for what, value, tolerance, unit in rows]
    # Vincent 2011: equal for every s_θ. What is left is the quadrature's error, of VE's multimodal p_t.
    apart = relative(*gradients)
    return [*checked, Check("gradients of score matching and denoising score matching", apart, 1e-6)]
