"""The Schrödinger bridge between two given distributions, by iterative proportional fitting of P_F and P_B."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import nn

from mlegfn.data import planar
from mlegfn.data.mmd import mmd2_unbiased, mmd_floor
from mlegfn.data.planar_density import log_density
from mlegfn.families.shared.bridge.gaussian import Gaussian
from mlegfn.families.shared.bridge.policies import Affine, Kernel, step_variances
from mlegfn.families.shared.family import Family, Fit, Panel
from mlegfn.families.shared.fitting import bounds, train
from mlegfn.networks.mlp import TimeMLP
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import step_index

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.bridge.gaussian import Chain
    from mlegfn.families.shared.family import Check, Settings

__all__ = ["Bridge"]

PROBLEMS = ("8gaussians", "moons")  # x_T and x_0
VARIANCE = 0.5  # σ² of the reference in units where both ends have variance 1
ITERATIONS = 4  # of both half-steps
SCORED = 1000  # points in sample scores
FLOOR_REPEATS = 20


class End(Protocol):
    """An endpoint of a bridge."""

    def log_prob(self, x: Tensor) -> Tensor: ...

    def sample(self, count: int, generator: torch.Generator) -> Tensor: ...


class Planar:
    """A planar problem as an endpoint, in the units in which ``points`` have mean 0 and variance 1."""

    def __init__(self, problem: str, points: Tensor) -> None:
        self.problem, self.mean, self.std = problem, points.mean(0), points.std(0)

    def log_prob(self, x: Tensor) -> Tensor:
        return (log_density(self.problem, self.to_data(x)) + self.std.double().log().sum()).to(x.dtype)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.to_model(planar.sample(self.problem, count, generator))

    def to_model(self, points: Tensor) -> Tensor:
        return (points - self.mean) / self.std

    def to_data(self, points: Tensor) -> Tensor:
        return points * self.std + self.mean


class Bridge(Family):
    """Of all processes with p(x_0) the data's and p(x_T) the prior's, the one nearest, in D_KL of trajectories, to
    a Brownian motion. Iterative proportional fitting (De Bortoli et al. 2021, arXiv 2106.01357) finds it by

        P_B ← argmin D_KL(P_F‖P_B), τ from the prior by P_F;    P_F ← argmin D_KL(P_B‖P_F), τ from data by P_B

    starting from P_F = the Brownian motion: in turn, a GFlowNet's trajectory KL in which one policy is fixed. At
    the end both are one measure of trajectories: trajectory balance, log w(τ) = log p(x_0) for every τ.
    """

    title = "Schrödinger bridge"
    order = 30
    policies = (
        "N(x_t + v_t u_θ(x_t, t), Σ_θ(t)), learned",
        "N(x_{t−1} + v_t u_φ(x_{t−1}, t), Σ_φ(t)), learned",
    )
    deterministic = "neither"
    objective = "KL-trajectory both ways in turn: D_KL(P_F‖P_B) for P_B, D_KL(P_B‖P_F) for P_F"
    data = f"planar: {PROBLEMS[0]} to {PROBLEMS[1]}"

    def __init__(self, prior: End, drifts: Sequence[nn.Module], variances: Tensor, dimension: int) -> None:
        """:param prior: p(x_T), with ``log_prob`` and ``sample``
        :param drifts: networks (x [N, d], time) → [N, d] of P_F and of P_B
        :param variances: [T], the reference's
        """
        super().__init__()
        self.timesteps, self.shape, self.prior = len(variances), (dimension,), prior
        self.forward_policy, self.backward_policy = (Kernel(drift, variances, dimension) for drift in drifts)

    def log_prior(self, x_T: Tensor) -> Tensor:
        return self.prior.log_prob(x_T)

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.forward_policy.log_prob(x_prev, x_t, t)

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.backward_policy.log_prob(x_t, x_prev, t)

    @torch.no_grad()
    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        states = [x0]
        for t in range(1, self.timesteps + 1):
            states.append(self.backward_policy.step(states[-1], t, generator))
        return torch.stack(states)

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        states = [self.prior.sample(shape[0], generator)]
        for t in range(self.timesteps, 0, -1):
            states.append(self.forward_policy.step(states[-1], t, generator))
        return torch.stack(states[::-1])

    @classmethod
    def affine(cls, prior: Gaussian, variances: Tensor) -> Self:
        """float64, affine drifts, at first the reference both ways."""
        dimension = len(prior.mean)
        drifts = [Affine(len(variances), dimension).double() for _ in range(2)]
        return cls(prior, drifts, variances, dimension)

    def chains(self, p_0: Gaussian) -> tuple[Chain, Chain]:
        """(P_F from the prior, P_B from ``p_0``) as ``Chain``s, where all is Gaussian."""
        order = torch.arange(self.timesteps)
        prior = cast("Gaussian", self.prior)  # as ``affine`` has it
        return self.forward_policy.chain(prior, order.flip(0)), self.backward_policy.chain(p_0, order)

    def set_chains(self, p_f: Chain, p_b: Chain) -> None:
        """Become the policies of two ``Chain``s."""
        order = torch.arange(self.timesteps)
        self.forward_policy.set(p_f, order.flip(0))
        self.backward_policy.set(p_b, order)

    def fit_policy(self, name: str, states: Tensor, settings: Settings, *key: int | str) -> None:
        """One half-step: maximum likelihood of P_F or P_B (``name``) on trajectories ``states`` of the other, i.e.
        min D_KL(other‖it), of whose gradient a batch of steps, whatever their t and τ, is an unbiased estimate.
        Every step of every trajectory is seen once."""
        log_prob, policy = {
            "P_F": (self.log_pf, self.forward_policy),
            "P_B": (self.log_pb, self.backward_policy),
        }[name]
        t = step_index(self.timesteps, states.shape[1])
        x_prev, x_t = states[:-1].flatten(0, 1), states[1:].flatten(0, 1)
        batches = torch.randperm(len(t), generator=generator(*key)).split(settings.batch)
        train(
            policy.parameters(),
            lambda step: -log_prob(*(x[batches[step]] for x in (x_prev, x_t, t))).mean(),
            settings,
        )

    def iterate(
        self,
        draw_data: Callable[[int, torch.Generator], Tensor],
        settings: Settings,
        iterations: int,
        *key: int | str,
    ) -> int:
        """``iterations`` of both half-steps, ``settings.steps`` of training in all, each on fresh trajectories.

        :param draw_data: (count, generator) → x_0
        :returns: how many trajectories a half-step saw
        """
        half = settings.model_copy(update={"steps": max(1, settings.steps // (2 * iterations))})
        count = math.ceil(half.steps * half.batch / self.timesteps)
        for n in range(iterations):
            states = self.sample_pf((count, *self.shape), generator(*key, n, "P_F"))
            self.fit_policy("P_B", states, half, *key, n, "fit P_B")
            states = self.sample_pb(draw_data(count, generator(*key, n, "data")), generator(*key, n, "P_B"))
            self.fit_policy("P_F", states, half, *key, n, "fit P_F")
        return count

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        """Wide ends and short steps: then x_t + small drifts both ways are near balance."""
        prior = Gaussian(
            torch.tensor([0.3, -0.2], dtype=dtype), torch.tensor([[4.0, 0.6], [0.6, 3.0]], dtype=dtype)
        )
        with torch.random.fork_rng([]):
            seed_layers(seed, "bridge", "tiny")
            model = cls(
                prior, [TimeMLP(3, 8, 1).to(dtype) for _ in range(2)], step_variances(3, 0.4).to(dtype), 2
            )
            for policy in (model.forward_policy, model.backward_policy):
                drift = cast("TimeMLP", policy.drift)
                for parameter in (*drift.exit.parameters(), *drift.time.parameters()):
                    nn.init.normal_(parameter, std=0.02)
                nn.init.normal_(policy.whitening, std=0.05)
        return model

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        from mlegfn.families.shared.bridge.checks import all_checks

        return all_checks(cls, settings)

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        start, end = (
            planar.sample(problem, settings.train_points, generator(seed, "bridge", problem, "train"))
            for problem in PROBLEMS
        )
        prior, data = Planar(PROBLEMS[0], start), Planar(PROBLEMS[1], end)
        points = data.to_model(end)
        with torch.random.fork_rng([]):
            seed_layers(seed, "bridge", "init")
            drifts = [TimeMLP(settings.timesteps, settings.hidden, 2) for _ in range(2)]
        # The reference has no drift, so neither has the first P_F: no output, no linear part.
        for drift in drifts:
            for parameter in (drift.exit.bias, drift.time.weight[-1:], drift.time.bias[-1:]):
                nn.init.zeros_(parameter)
        model = cls(prior, drifts, step_variances(settings.timesteps, VARIANCE), 2)

        def draw(count: int, generator: torch.Generator) -> Tensor:
            return points[torch.randint(len(points), (count,), generator=generator)]

        model.iterate(draw, settings, ITERATIONS, seed, "bridge")
        return Fit(model, *model.scores(data, settings, seed))

    def scores(self, data: Planar, settings: Settings, seed: int) -> tuple[dict[str, float], list[Panel]]:
        """(scores, panels) of a planar bridge from ``self.prior`` to ``data``."""
        import ot

        prior = cast("Planar", self.prior)  # as ``fit`` has it

        def rng(*key: object) -> torch.Generator:
            return generator(seed, "bridge", *key)

        count = min(SCORED, settings.train_points)
        fresh = {end: end.sample(2 * count, rng("fresh", end.problem)) for end in (prior, data)}
        forward = self.sample_pf((count, 2), rng("P_F"))
        backward = self.sample_pb(fresh[data][count:], rng("P_B"))
        scores = {}
        for end, made, name in ((data, forward[0], "P_F"), (prior, backward[-1], "P_B")):

            def another(n: int, k: int, end: Planar = end) -> Tensor:
                return end.to_data(end.sample(n, rng("floor", k)))

            floor = mmd_floor(another, count, FLOOR_REPEATS)
            scores[f"MMD² of {name}'s {end.problem} (n = {count})"] = mmd2_unbiased(
                end.to_data(made), end.to_data(fresh[end][:count])
            )
            scores[f"MMD² of {end.problem} against itself, 95 %"] = floor["quantile_95"]

        of_all_seeds = generator(0, "bridge", "test")
        test = planar.sample(data.problem, settings.test_points, of_all_seeds)
        low, high = bounds(self, data.to_model(test), settings.trajectories, rng("trajectories"))
        log_jacobian = -data.std.double().log().sum()
        for name, value in (
            (f"test NLL, nats (importance-weighted, K = {settings.trajectories})", high + log_jacobian),
            ("test −ELBO, nats", low + log_jacobian),
            (f"NLL of {data.problem}'s own density there, nats", log_density(data.problem, test)),
        ):
            scores[name] = -value.mean().item()

        cost = torch.cdist(fresh[data][count:].double(), fresh[prior][count:].double()).square()
        uniform = torch.full((count,), 1 / count, dtype=torch.float64)
        plan = ot.sinkhorn(uniform, uniform, cost, reg=2 * VARIANCE)
        for name, value in (
            ("P_F", (forward[0] - forward[-1]).square().sum(1).mean()),
            ("P_B", (backward[0] - backward[-1]).square().sum(1).mean()),
            ("POT's entropic plan, the target", (plan * cost).sum()),
            ("POT's exact plan, the limit σ → 0", ot.emd2(uniform, uniform, cost)),
        ):
            scores[f"E|x_T − x_0|² of {name}"] = value.item()

        half = self.timesteps // 2
        return scores, [
            Panel(f"data: {data.problem}", "points", fresh[data][:count]),
            Panel(f"x_T: {prior.problem}", "points", forward[-1]),
            Panel(f"x_{half} of P_F", "points", forward[half]),
            Panel("x_0 of P_F", "points", forward[0]),
        ]
