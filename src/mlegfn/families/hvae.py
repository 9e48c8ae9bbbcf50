"""Hierarchical VAEs: Gaussian policies both ways between layers of latents; KL-trajectory balance is their ELBO."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal
from torch.nn import functional as F

from mlegfn.data import digits
from mlegfn.diffusion.decoder import discretised_log_prob
from mlegfn.families.shared import proposition_2
from mlegfn.families.shared.comparing import gradient, relative
from mlegfn.families.shared.family import Check, Family, Fit, Panel, by_step
from mlegfn.families.shared.fitting import log_weights, train
from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import generator, seed_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Settings

    class Layers(Sequence["Conditional"]):
        """A ModuleList, which does not say of what."""

        def parameters(self) -> Iterator[nn.Parameter]: ...


__all__ = ["HVAE"]

TBC_WEIGHT = (
    0.1  # of Var[log w] beside −ELBO, both in nats; a larger one costs more bound than it saves variance
)


class Conditional(nn.Module):
    """x [N, inputs] → mean and log-variance [N, outputs] of N(A x + b + V h, diag exp(c + U h)), with
    h = SiLU(W x + e) [N, hidden]. Without h (hidden = 0) it is affine and everything has a closed form."""

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.affine = nn.Linear(inputs, outputs)
        self.log_variance = nn.Parameter(torch.zeros(outputs))
        self.network = None
        if hidden:
            self.network = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, 2 * outputs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.affine(x), self.log_variance.expand(len(x), -1)
        if self.network is None:
            return mean, log_variance
        shift, spread = self.network(x).chunk(2, 1)
        return mean + shift, log_variance + spread


class HVAE(Family):
    """T ≥ 3 layers of latents x_1 … x_T over data x_0, and x_T ~ N(0, I).

    P_F(x_{t−1}|x_t) and P_B(x_t|x_{t−1}) are diagonal Gaussians whose means and variances are networks, one for
    each step and direction: the hierarchy of latents, and the bottom-up encoder (Rezende et al. 2014, arXiv
    1401.4082). Where data have levels, P_F(x_0|x_1) is the Gaussian's mass in each level's bin, the decoder of the
    diffusion models here. E_{P_B} log w is the ELBO, so the KL-trajectory balance D_KL(P_B‖P_F) is −ELBO minus the
    data's entropy, and both policies have the same gradients (Proposition 2): P_B's through the states that it
    draws (the reparameterised gradient), or, without differentiating those, by its score function.

    A state has the data's size; a smaller latent fills its first entries.
    """

    title = "Hierarchical VAE"
    order = 10
    policies = (
        "N(μ_θ(x_t), diag σ_θ²(x_t)), generative layers",
        "N(μ_φ(x_{t−1}), diag σ_φ²(x_{t−1})), encoder",
    )
    deterministic = "neither"
    objective = "KL-TB = −ELBO − H(data), minimised in both policies"
    data = "digits, 8×8, 17 levels"

    def __init__(
        self,
        sizes: Sequence[int],
        hidden: int,
        levels: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """sizes: entries of x_0 … x_T; levels: grey values of the data, evenly on [−1, 1]; None: continuous."""
        super().__init__()
        if len(sizes) < 4 or max(sizes) != sizes[0] or min(sizes) < 1:
            raise ValueError(f"an HVAE here has ≥ 3 latents, none larger than the data, not sizes {sizes}")
        self.sizes, self.levels = tuple(sizes), levels
        self.timesteps, self.shape = len(sizes) - 1, (sizes[0],)
        steps = list(zip(sizes[:-1], sizes[1:]))
        up = nn.ModuleList(Conditional(below, above, hidden) for below, above in steps)
        down = nn.ModuleList(Conditional(above, below, hidden) for below, above in steps)
        self.up, self.down = cast("Layers", up), cast("Layers", down)
        if dtype is not None:
            self.to(dtype)

    def _cut(self, x: Tensor, t: int) -> Tensor:
        return x[..., : self.sizes[t]]

    def _pad(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.sizes[0] - x.shape[1]))

    def log_prior(self, x_T: Tensor) -> Tensor:
        log_prob: Tensor = Normal(0.0, 1.0).log_prob(self._cut(x_T, self.timesteps)).sum(1)
        return log_prob

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return by_step(t, self._log_pf, x_prev, x_t)

    def _log_pf(self, step: int, x_prev: Tensor, x_t: Tensor) -> Tensor:
        mean, log_variance = self.down[step - 1](self._cut(x_t, step))
        if step == 1 and self.levels:
            return discretised_log_prob(x_prev, mean, log_variance, self.levels)
        return gaussian(self._cut(x_prev, step - 1), mean, log_variance)

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return by_step(t, self._log_pb, x_prev, x_t)

    def _log_pb(self, step: int, x_prev: Tensor, x_t: Tensor) -> Tensor:
        return gaussian(self._cut(x_t, step), *self.up[step - 1](self._cut(x_prev, step - 1)))

    def explain(self, x0: Tensor, noise: Tensor) -> Tensor:
        """[T+1, N, D]: the path of P_B from x_0 [N, D] with ``noise`` [T, N, D], differentiable in P_B."""
        states = [x0]
        for step in range(1, self.timesteps + 1):
            mean, log_variance = self.up[step - 1](self._cut(states[-1], step - 1))
            states.append(self._pad(mean + (log_variance / 2).exp() * self._cut(noise[step - 1], step)))
        return torch.stack(states)

    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        return self.explain(x0, torch.randn(self.timesteps, *x0.shape, generator=generator, dtype=x0.dtype))

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        dtype = next(self.parameters()).dtype
        noise = torch.randn(self.timesteps + 1, *shape, generator=generator, dtype=dtype)
        states = [self._pad(self._cut(noise[-1], self.timesteps))]
        for step in range(self.timesteps, 0, -1):
            mean, log_variance = self.down[step - 1](self._cut(states[-1], step))
            x = mean + (log_variance / 2).exp() * self._cut(noise[step - 1], step - 1)
            states.append(self._pad(self.quantise(x) if step == 1 and self.levels else x))
        return torch.stack(states[::-1])

    def quantise(self, x: Tensor) -> Tensor:
        """The nearest of the data's levels: whose bin x is in."""
        unit = (cast("int", self.levels) - 1) / 2  # only called where there are levels
        return ((x.clamp(-1, 1) + 1) * unit).round() / unit - 1

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0, hidden: int = 8) -> Self:
        with torch.random.fork_rng([]):
            seed_layers(seed, "hvae", "tiny")
            model = cls((2, 2, 1, 1), hidden, dtype=dtype)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(0.5)
                for layer in [*model.up, *model.down]:
                    layer.log_variance.normal_(0.0, 0.1)
                model.down[0].log_variance.add_(1.3)  # data about as wide as the property tests' φ
        return model

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        model = cls.tiny(hidden=0)
        policies = {"P_F": list(model.down.parameters()), "P_B": list(model.up.parameters())}
        mean, covariance = [0.5, -1.0], [[3.0, 1.0], [1.0, 2.0]]
        data = MultivariateNormal(torch.tensor(mean).double(), torch.tensor(covariance).double())
        divergence, bound = proposition_2.trajectory_kl(model, data), proposition_2.expected_elbo(model, data)
        rows = [
            Check(
                "affine: D_KL(P_B(τ)‖P_F(τ)) of two joint Gaussians + H(data), and −ELBO by the training's own code",
                (divergence + data.entropy() + bound).abs().item(),
                1e-11,
                "nats",
                proposition=2,
            )
        ]
        for name, parameters in policies.items():
            both = [gradient(value, parameters) for value in (divergence, -bound)]
            rows.append(Check(f"their gradients in {name}", relative(*both), 1e-10, proposition=2))
        model = cls.tiny()
        value, error = proposition_2.value_deviation(model, data, generator(0, "hvae", "value"))
        return [
            *rows,
            Check(
                "networks: KL-TB by importance from paths of P_F, and −ELBO − H(data) from paths of P_B "
                f"(± {error:.2f} nats)",
                value,
                5.0,
                "standard errors",
                2,
            ),
            Check(
                "networks: gradients in P_B by its score function, and reparameterised; worst parameter",
                proposition_2.gradient_deviation(model, data, generator(0, "hvae", "score function")),
                5.0,
                "standard errors",
                2,
            ),
        ]

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        data = digits.load()
        unit = (data.levels - 1) / 2
        train_x = data.train_images.flatten(1)[: settings.train_points] / unit - 1
        test_x = data.test_images.flatten(1)[: settings.test_points] / unit - 1
        sizes = [max(2, train_x.shape[1] >> t) for t in range(settings.timesteps + 1)]
        with torch.random.fork_rng([]):
            seed_layers(seed, "hvae", "init")
            model = cls(sizes, settings.hidden, data.levels)

        def loss(step: int, model: HVAE, stage: str, count: int, weight: float) -> Tensor:
            rng = generator(seed, "hvae", stage, step)
            rows = torch.randint(len(train_x), (max(1, settings.batch // count),), generator=rng)
            log_w = log_weights(model, train_x[rows], count, rng)
            balance = weight * consistency(log_w).mean() if weight else 0.0
            return (balance - elbo(log_w).mean()) / train_x.shape[1]

        once = partial(loss, model=model, stage="train", count=1, weight=0.0)
        train(model.parameters(), once, settings, f"hvae {seed}")
        # Then a short rest from the same weights, on the same draws of two trajectories: without and with TBC.
        rest = settings.model_copy(update={"steps": max(1, settings.steps // 5), "lr": 0.3 * settings.lr})
        scores: dict[str, float] = {}
        for arm, weight in {"with TBC": TBC_WEIGHT, "ELBO alone": 0.0}.items():
            last = copy.deepcopy(model)
            both = partial(loss, model=last, stage="rest", count=2, weight=weight)
            train(last.parameters(), both, rest)
            scores |= last.test_scores(test_x, settings.trajectories, generator(seed, "hvae", "test"), arm)
        return Fit(last, scores, last.panels(test_x[:64], generator(seed, "hvae", "panels")))

    @torch.no_grad()
    def test_scores(self, x: Tensor, count: int, rng: torch.Generator, arm: str) -> dict[str, float]:
        """{what: value} of data x with levels, from ``count`` trajectories of each."""
        log_w = log_weights(self, x, count, rng)
        bits = -1 / (x.shape[1] * math.log(2))
        return {
            f"{arm}: test NLL, bits/dim (ELBO)": bits * elbo(log_w).mean().item(),
            f"{arm}: test NLL, bits/dim (importance-weighted, K = {count})": bits
            * importance_weighted(log_w).mean().item(),
            f"{arm}: test Var[log w], nats²": consistency(log_w).mean().item(),
        }

    @torch.no_grad()
    def panels(self, x: Tensor, rng: torch.Generator) -> list[Panel]:
        """Data x, samples, and x rebuilt from its lowest two latents by the means of P_F."""
        states = self.sample_pb(x, rng)
        shown = {"data": x, "samples": self.sample_pf(x.shape, rng)[0]}
        for t in (1, 2):
            mean = self._cut(states[t], t)
            for layer in reversed(self.down[:t]):
                mean, _ = layer(mean)
            shown[f"data rebuilt from x_{t}"] = mean.clamp(-1, 1)
        side = math.isqrt(x.shape[1])
        return [Panel(name, "images", (x.view(-1, side, side) + 1) / 2) for name, x in shown.items()]


def gaussian(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """[N]: log N(x; mean, diag exp(log_variance))."""
    log_prob: Tensor = Normal(mean, (log_variance / 2).exp(), validate_args=False).log_prob(x).sum(1)
    return log_prob
