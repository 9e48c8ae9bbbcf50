"""Proposition 4 (our reading): squared detailed balance of a step h, over h, → (denoising) score matching.

That it holds is in the families' own checks, here by name; and what is nearly it must be found out.
"""

import math

import pytest
import torch

from mlegfn.diffusion.process import normal_log_prob
from mlegfn.families import load
from mlegfn.families.shared.comparing import slope
from mlegfn.families.shared.diffusion import proposition_4 as measuring
from mlegfn.families.shared.diffusion.proposition_4 import SIZES, TIMES, detailed_balance, limit, stepper

EQUATIONS = ["sde", "sde_ve"]
EITHER = pytest.mark.parametrize("conditional", [False, True], ids=["marginal flow", "conditional flow"])


@pytest.fixture(params=EQUATIONS)
def cls(request):
    return load(request.param)


class Wrong:
    """One step of ``model`` with other log-probabilities: ``pf`` and ``pb`` are given the states."""

    def __init__(self, model, pf=None, pb=None):
        self.model, self.pf, self.pb = model, pf, pb

    def __getattr__(self, name):
        return getattr(self.model, name)

    def log_pf(self, *step):
        return self.pf(*step) if self.pf else self.model.log_pf(*step)

    def log_pb(self, *step):
        return self.pb(*step) if self.pb else self.model.log_pb(*step)


@torch.no_grad()
def errors(cls, conditional, wrong=lambda model: model, factor=1.0, flow=measuring._flow):
    """Relative |factor·E δ²/h − limit|, mean over TIMES, for each h, of what ``wrong`` makes of the pair."""
    step = stepper(cls)
    exact = [limit(step(t, SIZES[0]), t, conditional).item() for t in TIMES]
    return [
        sum(
            abs(factor * detailed_balance(wrong(step(t, h)), t, h, conditional, flow).item() / each - 1)
            for t, each in zip(TIMES, exact)
        )
        / len(TIMES)
        for h in SIZES
    ]


@EITHER
def test_proposition_4(cls, conditional):
    found = errors(cls, conditional)
    assert found == pytest.approx(measuring.differences(cls, conditional), rel=1e-9)
    assert abs(slope(list(zip(SIZES, found))) - 1) < 1 / 16
    assert all(a / b == pytest.approx(2, rel=0.1) for a, b in zip(found[2:], found[3:]))
    assert found[-1] < 4 * SIZES[-1]


@EITHER
def test_proposition_4_with_each_policys_own_coefficients(cls, conditional):
    """Euler–Maruyama to the letter: f and g of the step's start, t − h for P_B, t for P_F. Slope 1 too, but
    each step's variances differ, which costs the bound of a whole chain (docs/decisions.md)."""

    def at(model, time, state, sign):
        time = torch.tensor(time, dtype=torch.float64)
        return (1 + sign * model.drift(time) * model.h) * state, model.diffusion2(time) * model.h

    class Literal(Wrong):
        def __init__(self, model, t, h):
            super().__init__(model)
            self.t, self.h = t, h

        def _noised(self, x_prev, step):
            mean, variance = at(self, self.t - self.h, x_prev, 1)
            return mean, variance.expand(len(mean), 1)

        def log_pb(self, x_prev, x_t, step):
            return normal_log_prob(x_t, *log_variance(self._noised(x_prev, step)))

        def log_pf(self, x_prev, x_t, step):
            mean, variance = at(self, self.t, x_t, -1)
            mean = mean + variance * self.score(x_t, self.tables[3, step])
            return normal_log_prob(x_prev, *log_variance((mean, variance)))

    def log_variance(pair):
        return pair[0], pair[1].log()

    step = stepper(cls)
    with torch.no_grad():
        found = []
        for h in SIZES:
            pairs = [(limit(step(t, h), t, conditional), Literal(step(t, h), t, h), t) for t in TIMES]
            each = [abs(detailed_balance(pair, t, h, conditional) / exact - 1) for exact, pair, t in pairs]
            found.append(sum(each).item() / len(TIMES))
    assert math.log2(found[-2] / found[-1]) == pytest.approx(1, abs=0.02)


def test_its_quadrature_is_exact_enough(cls, monkeypatch):
    """Against half as many nodes again, the error is below a hundredth of what is left at the smallest h."""
    few = errors(cls, False)
    monkeypatch.setattr(measuring, "NODES", 96)
    assert errors(cls, False) == pytest.approx(few, rel=0.01)


@EITHER
def test_proposition_4_without_the_flows_has_another_limit(cls, conditional):
    """log P_F − log P_B alone is √h g ε·(−s_θ) + O(h): g² E‖s_θ‖², whatever the data are."""
    found = errors(cls, conditional, flow=lambda model, x, t, origin: (torch.zeros_like(x),))
    assert found[-1] > 0.1 and abs(slope(list(zip(SIZES, found)))) < 0.1
    with torch.no_grad():
        t, h, model = TIMES[0], SIZES[-1], stepper(cls)(TIMES[0], SIZES[-1])
        value = detailed_balance(model, t, h, conditional, lambda model, x, *rest: (torch.zeros_like(x),))
        x, mass, _ = measuring._states(model, t)
        time = torch.tensor(t, dtype=torch.float64)
        score = model.score(x[:, None], model.level(time).expand(len(x)))[:, 0]
        assert value.item() == pytest.approx(
            (model.diffusion2(time) * (mass * score**2).sum()).item(), rel=4 * h
        )


@EITHER
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_proposition_4_with_another_constant_fails(cls, conditional, factor):
    """The KL of a step has a ½ that its squared residual does not have."""
    found = errors(cls, conditional, factor=factor)
    assert found[-1] == pytest.approx(abs(factor - 1), rel=0.01)


@EITHER
def test_proposition_4_with_the_flow_odes_drift_fails(cls, conditional):
    """P_F with half of g² s_θ, the drift of the probability-flow ODE, is not the noising's reverse."""

    def half(model):
        def log_pf(x_prev, x_t, t):
            mean, variance = model._generated(x_t, t)
            push = variance * model.score(x_t, model.tables[3, t])
            return normal_log_prob(x_prev, mean - push / 2, variance.log())

        return Wrong(model, pf=log_pf)

    found = errors(cls, conditional, half)
    assert found[-1] > 0.1 and abs(slope(list(zip(SIZES, found)))) < 0.1


@EITHER
def test_proposition_4_with_a_mismatched_noise_diverges(cls, conditional):
    """With a tenth more variance in P_B than in P_F, δ² does not fall with h: over h it grows as 1/h."""

    def wider(model):
        def log_pb(x_prev, x_t, t):
            mean, variance = model._noised(x_prev, t)
            return normal_log_prob(x_t, mean, (1.1 * variance).log())

        return Wrong(model, pb=log_pb)

    found = errors(cls, conditional, wider)
    assert found[-1] / found[-2] == pytest.approx(2, rel=0.1)


def test_training_is_the_limit_over_all_steps(cls):
    """∫ g² ‖s_θ − ∇log q(x_t|x_0)‖² dt = ∫ denoising_loss du, for one x_0 and ε."""
    model = cls.tiny()
    low, high = (torch.tensor(v, dtype=torch.float64) for v in (0.2, 1.0))
    t = torch.linspace(low, high, 4001, dtype=torch.float64)
    x0 = torch.tensor([[0.5, -1.0]], dtype=torch.float64).expand(len(t), 2)
    eps = torch.tensor([[-0.3, 1.1]], dtype=torch.float64).expand(len(t), 2)

    with torch.no_grad():
        u = model.level(t)
        x_t = model.scale(u)[:, None] * x0 + model.std(u)[:, None] * eps
        away = model.score(x_t, u) + eps / model.std(u)[:, None]
        by_time = torch.trapezoid(model.diffusion2(t) * away.square().sum(1), t)
        levels = torch.linspace(model.level(low), model.level(high), 4001, dtype=torch.float64)
        by_level = torch.trapezoid(model.denoising_loss(x0, levels, eps), levels)
    assert by_time.item() == pytest.approx(by_level.item(), rel=1e-5)
