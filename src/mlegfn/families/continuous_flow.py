"""Continuous normalizing flows: the steps of a trajectory are pieces of an ODE's solution."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch

from mlegfn.families.shared import flows
from mlegfn.families.shared.comparing import gradient, relative
from mlegfn.families.shared.family import Check, Family
from mlegfn.families.shared.fitting import train
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Fit, Settings

__all__ = ["ContinuousFlow"]


class ContinuousFlow(Family):
    """dx/ds = v_θ(x, s) from noise at s = 0 to data at s = 1; x_t is the solution at s = 1 − t/T.

    A step solves the ODE over 1/T, P_B the same backwards. The Jacobian's determinant of a piece of a flow is the
    integral of the divergence along it (Liouville), so with log P_F = −∫ ∇·v ds over the step trajectory balance is
    the instantaneous change of variables d log p(x_s)/ds = −∇·v (Chen et al. 2018, arXiv 1806.07366).

    Steps are by torchdiffeq's classical fixed-step scheme of order 4: unlike adaptive steps, it gives a state the same
    image whatever it shares a batch with. Trained by conditional flow matching (arXiv 2210.02747).
    """

    title = "Normalizing flow, continuous (ODE)"
    order = 51
    policies = ("x_{t−1} = x_t + ∫ v_θ ds", "the same ODE backwards")
    deterministic = "both"
    objective = "TB = the instantaneous change of variables; v_θ by conditional flow matching"
    data = "pinwheel"

    def __init__(self, velocity: flows.Field, timesteps: int, substeps: int = 8) -> None:
        super().__init__()
        self.velocity, self.timesteps, self.substeps, self.shape = velocity, timesteps, substeps, (2,)
        self.scale = velocity.scale

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def solve(self, x: Tensor, start: Tensor, duration: float, density: bool = False) -> tuple[Tensor, ...]:
        """x after ``duration`` (a float, < 0 is back) from the times ``start`` [N], and ∫ ∇·v ds [N] on the way."""
        from torchdiffeq import odeint

        def augmented(elapsed: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            s = start + elapsed
            return flows.velocity_and_divergence(self.velocity, state[0], s)

        def plain(elapsed: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (self.velocity(state[0], start + elapsed),)

        state = (x, torch.zeros_like(x[:, 0])) if density else (x,)
        # A step is substeps of the solver, whatever the duration: 1/T.
        span = torch.tensor([0.0, duration], dtype=x.dtype)
        options = {"step_size": abs(duration) / self.substeps}
        path = odeint(augmented if density else plain, state, span, method="rk4", options=options)
        return tuple(states[-1] for states in path)

    def log_prior(self, x_T: Tensor) -> Tensor:
        return flows.log_normal(x_T, self.scale)

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        start = 1 - (t - 1).to(x_prev.dtype) / self.timesteps
        image, log_det = self.solve(x_prev, start, -1 / self.timesteps, density=True)  # of f⁻¹
        return log_det + flows.on_graph(x_t, image)

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x_prev[:, 0])

    def sample_pb(self, x0: Tensor, generator: torch.Generator | None) -> Tensor:
        return self._path(x0, 1.0, -1)

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        x_T = self.scale * torch.randn(shape, generator=generator, dtype=self.dtype)
        return self._path(x_T, 0.0, 1).flip(0)

    def _path(self, x: Tensor, start: float, sign: int) -> Tensor:
        states = [x]
        for step in range(self.timesteps):
            s = torch.full_like(x[:, 0], start + sign * step / self.timesteps)
            states.append(self.solve(states[-1], s, sign / self.timesteps)[0])
        return torch.stack(states)

    def log_prob(self, x: Tensor, tolerance: float | None = None) -> Tensor:
        """[N]: log p(x), by *one* solve over [0, 1] with an adaptive scheme of order 5: not how trajectories do it."""
        return flows.ode_log_prob(self.velocity, x, tolerance)

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        velocity = flows.Velocity.tiny(dtype, seed, "continuous flow", "tiny")
        return cls(velocity, timesteps=2, substeps=5)

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        model = cls.tiny()
        model.substeps = 16
        x = model.sample_pf((64, 2), generator(0, "continuous flow"))[0]
        states = model.sample_pb(x, None)
        trajectory, exact = score(model, states).log_w, model.log_prob(x)
        _, whole = flows.value_and_jacobian(lambda y: model.sample_pb(y, None)[-1], x)
        by_jacobian = flows.log_normal(states[-1], model.scale) + torch.linalg.slogdet(whole)[1]
        gradients = [gradient(log_p.sum(), model.parameters()) for log_p in (trajectory, exact)]
        again = model._path(states[-1].detach(), 0.0, 1)[-1]

        field = flows.LinearField.example()
        linear = cls(field, timesteps=2, substeps=16)
        closed = score(linear, linear.sample_pb(x, None)).log_w - field.log_prob(x)
        mass = flows.mass(model.log_prob, 12.0, 65)
        return [
            # The scheme's error with 32 steps over [0, 1] is of order (1/32)^4 times derivatives of v below 1: 1e-7.
            Check(
                "log w, and log p(x) by one solve over [0, 1] of another scheme, tolerance 1e-9",
                (trajectory - exact).abs().max().item(),
                1e-6,
                "nats",
                9,
            ),
            Check(
                "log w, and log p(x_T) + log |det ∂x_T/∂x| of the solver's map by autograd",
                (trajectory - by_jacobian).abs().max().item(),
                1e-6,
                "nats",
                9,
            ),
            Check(
                "log w of a linear field, and the Gaussian by matrix exponentials",
                closed.abs().max().item(),
                1e-6,
                "nats",
                9,
            ),
            Check("gradients of log w and of that log p(x)", relative(*gradients), 1e-6, proposition=9),
            Check("P_F after P_B is the identity", (again - x).abs().max().item(), 1e-6, "absolute"),
            # The density is smooth: the rule is exact up to the tails and the solver.
            Check("∫ p(x) dx = 1, trapezoidal rule", abs(mass - 1), 1e-6, "absolute"),
        ]

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        data, test = flows.problem(settings)
        with torch.random.fork_rng([]):
            seed_layers(seed, "continuous flow", "init")
            model = cls(flows.Velocity(settings.hidden), settings.timesteps)

        def loss(step: int) -> Tensor:
            rng = generator(seed, "continuous flow", step)
            x = flows.minibatch(data, settings, rng)
            return cast("flows.Velocity", model.velocity).matching(x, rng)

        train(model.parameters(), loss, settings, f"continuous flow {seed}")
        samples = model.sample_pf(test.shape, generator(seed, "continuous flow", "sample"))
        with torch.no_grad():
            log_prob = copy.deepcopy(model).double().log_prob(test.double(), 1e-6)
        return flows.fitted(model, log_prob, "exact, by the ODE", data, test, samples)
