"""A flow with noise: Gaussian steps along a velocity field, which become the deterministic flow as the noise vanishes."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, cast

import torch

from mlegfn.families.shared import flows
from mlegfn.families.shared.comparing import slope
from mlegfn.families.shared.family import Check, Family, Fit, Panel
from mlegfn.families.shared.fitting import bounds, log_weights, train
from mlegfn.randomness import generator, seed_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Settings

__all__ = ["StochasticFlow", "euler_log_prob", "jacobian_error", "noise_curve", "steps_for"]

SIGMA = 0.5


class StochasticFlow(Family):
    """dx = v_θ(x, s) ds + σ dW, in T steps of h = 1/T, and one of three reversals of it; x_t is at s = 1 − t/T.

    drift:   P_F = N(x + h v(x, s), σ²h),  P_B = N(x′ − h v(x′, s′), σ²h). Balance holds as σ → 0, *if* h/σ → 0.
    score:   drifts v ± ½σ² ∇log p_s, for which the marginals are the ODE's, p_s, at *every* σ: balance as h → 0
             (Anderson 1982; Albergo et al. 2023, arXiv 2303.08797). Flow matching gives the score with v.
    inverse: P_F as for drift, P_B = N(f⁻¹(x′), σ²h J⁻¹J⁻ᵀ) with f(x) = x + h v(x, s) and J = ∂f/∂x there: its ratio
             tends to 1/|det J| as σ → 0, at any h.

    Both drifts learned, between which the noise is free: diffusion normalizing flows (Zhang and Chen 2021,
    arXiv 2110.07579).
    """

    title = "Normalizing flow, stochastic (SDE)"
    order = 52
    policies = ("N(x_t + h(v_θ + ½σ²∇log p_s), σ²h)", "N(x_{t−1} − h(v_θ − ½σ²∇log p_s), σ²h)")
    deterministic = "neither"
    objective = "TB up to O(√h); v_θ, and with it the score, by conditional flow matching"
    data = "pinwheel"

    def __init__(self, velocity: flows.Field, timesteps: int, sigma: float, reversal: str = "score") -> None:
        super().__init__()
        if reversal not in ("drift", "score", "inverse"):
            raise ValueError(f"a reversal is drift, score or inverse, not {reversal!r}")
        self.velocity, self.timesteps, self.sigma, self.reversal = velocity, timesteps, sigma, reversal
        self.shape, self.scale = (2,), velocity.scale
        self.std = sigma * math.sqrt(1 / timesteps)

    def log_prior(self, x_T: Tensor) -> Tensor:
        return flows.log_normal(x_T, self.scale)

    def forward_mean(self, x_t: Tensor, t: Tensor) -> Tensor:
        return x_t + self._drift(x_t, t, 0.5) / self.timesteps

    def backward_mean(self, x_prev: Tensor, t: Tensor) -> Tensor:
        return x_prev - self._drift(x_prev, t - 1, -0.5) / self.timesteps

    def _drift(self, x: Tensor, t: Tensor, sign: float) -> Tensor:
        s = 1 - t.to(x.dtype) / self.timesteps
        velocity = self.velocity(x, s)
        if self.reversal != "score":
            return velocity
        return velocity + sign * self.sigma**2 * self.velocity.score(x, s, velocity)

    def inverse(self, x_prev: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(y = f⁻¹(x_prev) [N, 2], J(y) [N, 2, 2]) of the Euler step f from t, by Newton's method."""
        y = x_prev
        for _ in range(8):
            value, matrix = flows.value_and_jacobian(lambda x: self.forward_mean(x, t), y)
            y = y - torch.linalg.solve(matrix, value - x_prev)
        return y, flows.value_and_jacobian(lambda x: self.forward_mean(x, t), y)[1]

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return flows.log_normal(x_prev - self.forward_mean(x_t, t), self.std)

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        if self.reversal != "inverse":
            return flows.log_normal(x_t - self.backward_mean(x_prev, t), self.std)
        y, matrix = self.inverse(x_prev, t)
        residual = (matrix @ (x_t - y)[..., None])[..., 0]
        log_prob: Tensor = flows.log_normal(residual, self.std) + torch.linalg.slogdet(matrix)[1]
        return log_prob

    def step_pb(self, x_prev: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t ~ P_B(·|x_{t−1}), from ``noise`` of N(0, I)."""
        if self.reversal != "inverse":
            return self.backward_mean(x_prev, t) + self.std * noise
        y, matrix = self.inverse(x_prev, t)
        x_t: Tensor = y + self.std * torch.linalg.solve(matrix, noise)
        return x_t

    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        states = [x0]
        for step in range(1, self.timesteps + 1):
            noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
            states.append(self.step_pb(states[-1], torch.full((len(x0),), step), noise))
        return torch.stack(states)

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        dtype = next(self.parameters()).dtype
        draw: Callable[[], Tensor] = lambda: torch.randn(shape, generator=generator, dtype=dtype)  # noqa: E731
        states = [self.scale * draw()]
        for step in range(self.timesteps, 0, -1):
            mean = self.forward_mean(states[-1], torch.full(shape[:1], step))
            states.append(mean + self.std * draw())
        return torch.stack(states[::-1])

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        # smallest: with 4 steps the score must not change by orders of magnitude within one
        velocity = flows.Velocity.tiny(dtype, seed, "stochastic flow", "tiny", smallest=0.6)
        return cls(velocity, timesteps=4, sigma=0.5)

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        """No step here is trained: a nonlinear field (a random network), and a linear one that is known exactly."""
        linear, bent = flows.LinearField.example(), cls.tiny().velocity
        x = 1.5 * torch.randn(32, 2, generator=generator(0, "stochastic flow", "x"), dtype=torch.float64)
        halves = [2.0**-k for k in range(1, 9)]
        with torch.no_grad():
            ode = flows.ode_log_prob(bent, x, 1e-11)
            one_step = torch.tensor([[sigma, jacobian_error(bent, x, sigma)] for sigma in halves])
            exact = [
                (linear.expected_log_w(x, sigma, steps_for(sigma)) - linear.log_prob(x)).abs().max().item()
                for sigma in halves
            ]
            along_linear = noise_curve(linear, linear.log_prob(x), x, halves, steps_for)
            along_bent = noise_curve(bent, ode, x, halves[:7], steps_for)
            fixed = noise_curve(bent, euler_log_prob(bent, x, 8), x, halves, lambda sigma: 8, "inverse")
            smaller = [sigma / 32 for sigma in halves[:6]]
            broken = noise_curve(linear, linear.log_prob(x), x, smaller, lambda sigma: 8)
            steps = [64, 256, 1024]
            scored: list[Tensor] | list[float] = [
                log_weights(cls(linear, T, 0.5), x, 8, generator(0, "score", T)) for T in steps
            ]
            scored = [(log_w - linear.log_prob(x)[:, None]).square().mean().sqrt().item() for log_w in scored]

        def trend(what: str, points: Tensor, expected: float, proposition: int | None = None) -> Check:
            # 256 trajectories a point: a root mean square is known to 6 %, and a slope over six octaves to 0.02. The
            # first octaves, where the next order matters, are left out.
            gap = abs(slope(points[-6:]) - expected)
            return Check(f"{what}: slope, expected {expected:g}", gap, 0.1, "absolute", proposition)

        return [
            trend("one narrow step, log P_F − log P_B and −log |det J|, r.m.s. against σ", one_step, 1, 13),
            # r.m.s. = σ√h · (third moments of ε) · ∂²f/2, with derivatives of f below 1 and h = 1/2.
            Check("that at σ = 2^-8", one_step[-1, 1].item(), 2.0**-8, "nats", 13),
            trend(
                "linear field: exact E log w and the ODE's log p(x), largest over x, against σ, h = 4σ²",
                torch.tensor([halves, exact]).T,
                2,
                14,
            ),
            trend("linear field: log w and the ODE's log p(x), r.m.s. against σ", along_linear, 1, 14),
            trend("nonlinear field: the same, the ODE solved to 1e-11", along_bent, 1, 14),
            trend(
                "at h = 1/8, P_B with f⁻¹ and J: log w and the Euler map's, r.m.s. against σ", fixed, 1, 14
            ),
            trend("at h = 1/8, P_B without them (wrong): it diverges, r.m.s. against σ", broken, -2, 14),
            trend(
                "linear field, score in the drifts, σ = 1/2: log w and the ODE's log p(x), r.m.s. against h",
                torch.tensor([[1 / T for T in steps], scored]).T,
                0.5,
            ),
        ]

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        data, test = flows.problem(settings)
        with torch.random.fork_rng([]):
            seed_layers(seed, "stochastic flow", "init")
            model = cls(flows.Velocity(settings.hidden), settings.timesteps, SIGMA)

        def loss(step: int) -> Tensor:
            rng = generator(seed, "stochastic flow", step)
            return cast("flows.Velocity", model.velocity).matching(flows.minibatch(data, settings, rng), rng)

        train(model.parameters(), loss, settings, f"stochastic flow {seed}")
        samples = model.sample_pf(test.shape, generator(seed, "stochastic flow", "sample"))
        low, high = bounds(model, test, settings.trajectories, generator(seed, "stochastic flow", "bounds"))
        velocity, few = copy.deepcopy(cast("flows.Velocity", model.velocity)).double(), test[:32].double()
        levels = [2.0**-k for k in range(1, 12) if steps_for(2.0**-k) <= settings.timesteps**2]
        with torch.no_grad():
            ode = flows.ode_log_prob(velocity, few, 1e-8)
            curve = noise_curve(velocity, ode, few, levels, steps_for)
        scores = flows.scores(high, f"importance-weighted, K = {settings.trajectories}", test, samples[0])
        return Fit(
            model,
            {"−ELBO, nats": -low.mean().item(), **scores},
            [
                Panel("data", "points", data[:1000]),
                Panel("samples", "points", samples[0]),
                Panel(
                    "the SDE's log w tends to the ODE's log p(x), h = 4σ²",
                    "curve",
                    curve,
                    ("σ", "r.m.s. difference, nats"),
                ),
            ],
        )


def steps_for(sigma: float) -> int:
    """T with h = 4σ²: h/σ → 0, so that the Euler steps of the reversal, too, are those of one ODE."""
    return max(1, round(1 / (4 * sigma**2)))


def noise_curve(
    velocity: flows.Field,
    reference: Tensor,
    x: Tensor,
    sigmas: Iterable[float],
    steps: Callable[[float], int],
    reversal: str = "drift",
) -> Tensor:
    """[k, 2]: (σ, r.m.s. of log w(τ) − ``reference`` [N]) over eight τ ~ P_B(·|x) of each x [N, 2]. It bounds the
    mean's error and the standard deviation both."""
    points = []
    for sigma in sigmas:
        pair = StochasticFlow(velocity, steps(sigma), sigma, reversal)
        log_w = log_weights(pair, x, 8, generator(0, "stochastic flow", reversal, sigma))
        points.append([sigma, (log_w - reference[:, None]).square().mean().sqrt().item()])
    return torch.tensor(points)


def jacobian_error(velocity: flows.Field, x: Tensor, sigma: float, reversal: str = "inverse") -> float:
    """R.m.s. over x [N, 2] and eight noises of log P_F − log P_B + log |det J| of the step of size ½ into x."""
    pair = StochasticFlow(velocity, 2, sigma, reversal)
    x, t = x.repeat(8, 1), torch.ones(8 * len(x), dtype=torch.int64)
    noise = torch.randn(x.shape, generator=generator(0, "one step", sigma), dtype=x.dtype)
    x_t = pair.step_pb(x, t, noise)
    log_det = torch.linalg.slogdet(pair.inverse(x, t)[1])[1]
    error: float = (pair.log_pf(x, x_t, t) - pair.log_pb(x, x_t, t) + log_det).square().mean().sqrt().item()
    return error


def euler_log_prob(velocity: flows.Field, x: Tensor, steps: int) -> Tensor:
    """[N]: log-density at x of ``steps`` Euler steps without noise, by the Jacobian of the whole map."""
    pair = StochasticFlow(velocity, steps, 1.0, "inverse")

    def backwards(x: Tensor) -> Tensor:
        for step in range(1, steps + 1):
            x = pair.inverse(x, torch.full((len(x),), step))[0]
        return x

    def forwards(x: Tensor) -> Tensor:
        for step in range(steps, 0, -1):
            x = pair.forward_mean(x, torch.full((len(x),), step))
        return x

    x_T = backwards(x)
    log_prob: Tensor = (
        pair.log_prior(x_T) - torch.linalg.slogdet(flows.value_and_jacobian(forwards, x_T)[1])[1]
    )
    return log_prob
