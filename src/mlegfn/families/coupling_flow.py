"""Discrete normalizing flows: both policies deterministic, and P_F / P_B is the change of variables."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn
from zuko.distributions import DiagNormal
from zuko.flows import NICE
from zuko.lazy import UnconditionalDistribution
from zuko.transforms import MonotonicRQSTransform

from mlegfn.families.shared import flows
from mlegfn.families.shared.comparing import gradient, relative
from mlegfn.families.shared.family import Check, Family, by_step
from mlegfn.families.shared.fitting import train
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Fit, Settings

__all__ = ["CouplingFlow"]

BOUND = 5.0  # splines act on [−5, 5]², which holds the planar problems, and are the identity elsewhere
BINS = 16


class Step(Protocol):
    """What zuko's transforms have."""

    @property
    def inv(self) -> Step: ...

    def __call__(self, x: Tensor) -> Tensor: ...

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]: ...


class CouplingFlow(Family):
    """One coupling layer a step: one coordinate stays, the other goes through a monotone spline that depends on it.

    x_{t−1} = f_t(x_t) and x_t = f_t⁻¹(x_{t−1}), so each x has one trajectory, and with log P_F = −log |det ∂f_t/∂x_t|
    trajectory balance is the change of variables: log w = log p(x_T) − Σ_t log |det ∂f_t/∂x_t| = log p(x).

    Neural spline couplings (Durkan et al. 2019, arXiv 1906.04032) of zuko, whose layers map data to noise.
    """

    title = "Normalizing flow, discrete (coupling)"
    order = 50
    policies = ("x_{t−1} = f_t(x_t), a spline coupling", "x_t = f_t⁻¹(x_{t−1})")
    deterministic = "both"
    objective = "KL-TB = −log p(x), by the change of variables"
    data = "pinwheel"

    def __init__(
        self,
        timesteps: int,
        hidden: int,
        bins: int = BINS,
        scale: float = flows.SCALE,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.timesteps, self.shape, self.scale = timesteps, (2,), scale
        self.flow = NICE(
            2,
            transforms=timesteps,
            univariate=partial(MonotonicRQSTransform, bound=BOUND),
            shapes=[(bins,), (bins,), (bins - 1,)],
            hidden_features=(hidden, hidden),
            activation=nn.SiLU,
        )
        self.flow.base = UnconditionalDistribution(
            DiagNormal, torch.zeros(2, dtype=dtype), torch.full((2,), scale, dtype=dtype), buffer=True
        )
        self.to(dtype)

    def step(self, t: int) -> Step:
        """f_t⁻¹, x_{t−1} → x_t: a torch ``Transform``."""
        step: Step = self.flow.transform.transforms[t - 1]()
        return step

    def log_prior(self, x_T: Tensor) -> Tensor:
        return flows.log_normal(x_T, self.scale)

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        def of_step(step: int, x_prev: Tensor, x_t: Tensor) -> Tensor:
            image, log_det = self.step(step).call_and_ladj(x_prev)  # of f⁻¹, which is minus that of f
            return log_det + flows.on_graph(x_t, image)

        return by_step(t, of_step, x_prev, x_t)

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x_prev[:, 0])

    def sample_pb(self, x0: Tensor, generator: torch.Generator | None) -> Tensor:
        states = [x0]
        for t in range(1, self.timesteps + 1):
            states.append(self.step(t)(states[-1]))
        return torch.stack(states)

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        dtype = next(self.parameters()).dtype
        states = [self.scale * torch.randn(shape, generator=generator, dtype=dtype)]
        for t in range(self.timesteps, 0, -1):
            states.append(self.step(t).inv(states[-1]))
        return torch.stack(states[::-1])

    def log_prob(self, x: Tensor) -> Tensor:
        log_prob: Tensor = self.flow().log_prob(x)
        return log_prob

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        with torch.random.fork_rng([]):
            seed_layers(seed, "coupling flow", "tiny")
            model = cls(timesteps=3, hidden=8, bins=4, scale=1.8, dtype=dtype)
        with torch.no_grad():  # fresh layers are nearly the identity: bend the splines
            for layer in model.flow.transform.transforms:
                layer.hyper[-1].weight.mul_(1.5)
        return model

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        model = cls.tiny()
        x = model.sample_pf((256, 2), generator(0, "coupling flow"))[0]
        states = model.sample_pb(x, None)
        trajectory, exact = score(model, states).log_w, model.log_prob(x)
        _, whole = flows.value_and_jacobian(lambda y: model.sample_pb(y, None)[-1], x)
        by_jacobian = flows.log_normal(states[-1], model.scale) + torch.linalg.slogdet(whole)[1]
        again = states[-1]
        for t in range(model.timesteps, 0, -1):
            again = model.step(t).inv(again)
        gradients = [gradient(log_p.sum(), model.parameters()) for log_p in (trajectory, exact)]
        mass = flows.mass(model.log_prob, 14.0, 561)
        return [
            # Sums of T = 3 numbers of size 1, each rounded at 1e-16; the splines' arithmetic amplifies by their slopes.
            Check("log w, and zuko's log p(x)", (trajectory - exact).abs().max().item(), 1e-12, "nats", 8),
            Check(
                "log w, and log p(x_T) + log |det ∂x_T/∂x| of the whole map by autograd",
                (trajectory - by_jacobian).abs().max().item(),
                1e-10,
                "nats",
                8,
            ),
            Check("gradients of log w and of zuko's log p(x)", relative(*gradients), 1e-10, proposition=8),
            # The spline is inverted by a quadratic's root: half of the digits where it nearly is a straight line.
            Check("P_F after P_B is the identity", (again - x).abs().max().item(), 1e-8, "absolute"),
            # The splines' second derivatives jump, so the density has kinks: the rule's error is O(step²), 0.05².
            Check("∫ p(x) dx = 1, trapezoidal rule", abs(mass - 1), 1e-4, "absolute"),
        ]

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        data, test = flows.problem(settings)
        with torch.random.fork_rng([]):
            seed_layers(seed, "coupling flow", "init")
            model = cls(settings.timesteps, settings.hidden)

        def loss(step: int) -> Tensor:
            x = flows.minibatch(data, settings, generator(seed, "coupling flow", step))
            return -model.log_prob(x).mean()

        train(model.parameters(), loss, settings, f"coupling flow {seed}")
        samples = model.sample_pf(test.shape, generator(seed, "coupling flow", "sample"))
        with torch.no_grad():
            log_prob = model.log_prob(test)
        return flows.fitted(model, log_prob, "exact", data, test, samples)
