"""What diffusions by an SDE share: Euler–Maruyama's policies, training, scores."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from mlegfn.diffusion.process import normal_log_prob
from mlegfn.families.shared.diffusion.planar import Problem
from mlegfn.families.shared.family import Check, Family, Panel
from mlegfn.families.shared.fitting import train
from mlegfn.networks.mlp import TIME_FEATURES, TimeMLP
from mlegfn.randomness import generator, seed_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Fit, Settings

__all__ = ["LOWEST", "ScoreNetwork", "ScoreSDE", "flow_log_density"]

# The least noise that a score is trained at, as u = log(std²/a²): a ninetieth of the data's spread.
LOWEST = -9.0


class ScoreNetwork(TimeMLP):
    """TimeMLP for times that are not steps: (x [N, 2], place [N] in 0…1) → [N, 2].

    TimeMLP looks time features up in a table of T rows; here the table is that of the places in this call.
    """

    frequency: Tensor

    def __init__(self, hidden: int, layers: int = 2) -> None:
        super().__init__(1, hidden, layers)
        half = TIME_FEATURES // 2
        frequency = 100 ** (1 - torch.arange(half, dtype=torch.float64) / (half - 1))
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        places, row = place.unique(return_inverse=True)
        angle = places[:, None] * self.frequency
        self.time_features = torch.cat([angle.sin(), angle.cos()], 1)
        return super().forward(x, row)


class ScoreSDE(Family):
    """Noising is dx = f(t) x dt + g(t) dW over t in 0…horizon, generation its reverse (Song et al. 2021).

    A subclass says what f, g² and u(t) = log(std²/a²) are, for q(x_t|x_0) = N(a(t) x_0, std(t)² I). The model
    is a score, that of a Gaussian of standard deviation ``spread`` and what the network adds to it:

        std·s_θ(x, u) = −x·std/v − n_θ(x/√v, place of u),    v = a²·spread² + std².

    times [T+1]: where the chain's states stand. Both policies are Euler–Maruyama steps of size h = t_i −
    t_{i−1}, of the reverse and of the noising equation, with f and g taken in the middle of the step:

        P_F(x_{i−1}|x_i) = N(x_i − [f x_i − g² s_θ(x_i, t_i)] h, g² h I),
        P_B(x_i|x_{i−1}) = N(x_{i−1} + f x_{i−1} h, g² h I).

    With one g, so that both have the same variance, as two processes must to have a density ratio as h → 0.
    """

    deterministic = "neither"
    policies = (
        "Euler–Maruyama step of the reverse SDE, learned score",
        "Euler–Maruyama step of the noising SDE, fixed",
    )
    objective = "DB over a step h, squared, /h → (denoising) score matching as h → 0"
    problem = "moons"
    data = "planar: moons"

    tables: Tensor

    def __init__(
        self,
        network: nn.Module,
        times: Tensor | Sequence[float],
        dimensions: int = 2,
        spread: float = 1.0,
        horizon: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network, self.spread, self.horizon = network, spread, horizon
        times = torch.as_tensor(times, dtype=torch.float64)
        self.timesteps, self.shape = len(times) - 1, (dimensions,)
        self.highest = self.level(torch.tensor(horizon, dtype=torch.float64)).item()
        h, middle = times.diff(), (times[1:] + times[:-1]) / 2
        drift, variance = self.drift(middle) * h, self.diffusion2(middle) * h
        # In float64, then cast: h may be 1e-4 and t near 1. Column 0 is never read: t counts from 1.
        tables = torch.stack([1 + drift, 1 - drift, variance, self.level(times[1:])])
        self.register_buffer("tables", nn.functional.pad(tables, (1, 0)), persistent=False)
        spread2 = spread**2
        for keep, added in zip((1 + drift).tolist(), variance.tolist()):
            spread2 = keep**2 * spread2 + added
        self.prior_std = math.sqrt(spread2)  # of x_T, for data of standard deviation ``spread``
        self.to(dtype)

    def drift(self, t: Tensor) -> Tensor:
        """f(t); the drift is f(t)·x."""
        raise NotImplementedError

    def diffusion2(self, t: Tensor) -> Tensor:
        """g(t)²."""
        raise NotImplementedError

    def level(self, t: Tensor) -> Tensor:
        """u(t) = log(std²/a²); du/dt = g²/std², whatever the equation."""
        raise NotImplementedError

    def scale(self, u: Tensor) -> Tensor:
        """a at noise level u."""
        raise NotImplementedError

    @staticmethod
    def grid(timesteps: int) -> Tensor:
        """[T+1]: the chain's times in 0…1."""
        raise NotImplementedError

    def std(self, u: Tensor) -> Tensor:
        return self.scale(u) * (u / 2).exp()

    def scaled_score(self, x: Tensor, u: Tensor) -> Tensor:
        """std·s_θ(x, u) [N, d] at x [N, d], noise level u [N]: minus the noise that the model sees in x."""
        a, ratio = self.scale(u)[:, None], (u / 2).exp()[:, None]
        root = a * (self.spread**2 + ratio**2).sqrt()
        place = (u - LOWEST) / (self.highest - LOWEST)
        scaled: Tensor = -x * (a * ratio) / root**2 - self.network(x / root, place)
        return scaled

    def score(self, x: Tensor, u: Tensor) -> Tensor:
        """s_θ(x, u) [N, d], which stands for ∇ log p_t(x)."""
        return self.scaled_score(x, u) / self.std(u)[:, None]

    def _generated(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [N, d] and variance [N, 1] of P_F(·|x_t)."""
        _, keep, variance, level = self.tables[:, t, None]
        return keep * x_t + variance * self.score(x_t, level[:, 0]), variance

    def _noised(self, x_prev: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        keep, _, variance, _ = self.tables[:, t, None]
        return keep * x_prev, variance

    def log_prior(self, x_T: Tensor) -> Tensor:
        return normal_log_prob(x_T, x_T.new_zeros(()), x_T.new_tensor(2 * math.log(self.prior_std)))

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        mean, variance = self._generated(x_t, t)
        return normal_log_prob(x_prev, mean, variance.log())

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        mean, variance = self._noised(x_prev, t)
        return normal_log_prob(x_t, mean, variance.log())

    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        return self._walk(self._noised, x0, range(1, self.timesteps + 1), generator)

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        start = self.prior_std * torch.randn(shape, generator=generator, dtype=self.tables.dtype)
        return self._walk(self._generated, start, range(self.timesteps, 0, -1), generator).flip(0)

    def _walk(
        self,
        policy: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        x: Tensor,
        steps: Iterable[int],
        generator: torch.Generator,
    ) -> Tensor:
        states = [x]
        for step in steps:
            mean, variance = policy(states[-1], torch.full((len(x),), step))
            states.append(mean + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype))
        return torch.stack(states)

    def denoising_loss(self, x0: Tensor, u: Tensor, eps: Tensor) -> Tensor:
        """[N]: std² ‖s_θ(x_t) − ∇log q(x_t|x_0)‖² = ‖std·s_θ + ε‖² at x_t = a x_0 + std ε, for u [N].

        As du = g²/std² dt, its integral over u is ∫ g² E‖s_θ − ∇log q(x_t|x_0)‖² dt, the limit of the squared
        detailed balance of all steps (Proposition 4); u drawn uniformly is all the weighting there is.
        """
        x_t = self.scale(u)[:, None] * (x0 + (u / 2).exp()[:, None] * eps)
        return (self.scaled_score(x_t, u) + eps).square().sum(1)

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        """The score of N(0, 2² I), off by a random network; half of the time, where few steps do."""
        with torch.random.fork_rng([]):
            seed_layers(seed, cls.__name__, "tiny")
            network = ScoreNetwork(hidden=8, layers=1)
            nn.init.normal_(network.exit.weight, std=0.05)
        for rows in (network.exit.bias, network.time.weight[-1], network.time.bias[-1]):
            rows.data.mul_(0.1)  # what is added whatever x is, and in proportion to it
        return cls(network, cls.grid(6) / 2, spread=2.0, dtype=dtype)

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        from mlegfn.families.shared.diffusion.proposition_4 import checks

        return [*checks(cls), _flow_check(cls)]

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        from mlegfn.families.shared.diffusion.proposition_4 import SIZES, differences

        name = cls.__name__
        problem = Problem.draw(cls.problem, settings, seed)
        with torch.random.fork_rng([]):
            seed_layers(seed, name, "init")
            model = cls(ScoreNetwork(settings.hidden), cls.grid(settings.timesteps))

        def loss(step: int) -> Tensor:
            draw = generator(seed, name, step)
            x0 = problem.batch(step, settings.batch)
            # Evenly spread levels with one random offset: still uniform each, and less noise in the sum.
            even = (torch.arange(settings.batch) + torch.rand(1, generator=draw)) / settings.batch
            u = LOWEST + (model.highest - LOWEST) * even
            return model.denoising_loss(x0, u, torch.randn(x0.shape, generator=draw)).mean()

        train(model.parameters(), loss, settings, f"{name} {seed}")
        flow = problem.nll(flow_log_density(model, problem.test))
        fit = problem.fit(model, settings, {"test NLL, nats (probability-flow ODE)": flow})
        measured = torch.tensor([SIZES, differences(cls, conditional=True)]).T
        labels = ("step size h", "|DB/h − score matching|, relative")
        fit.panels.append(Panel("Proposition 4", "curve", measured, labels))
        return fit


def flow_log_density(model: ScoreSDE, x: Tensor, tolerance: float = 1e-5) -> Tensor:
    """[N] float64, nats: log p(x) under the ODE dx/dt = f x − ½ g² s_θ(x, t) (Song et al. 2021, §4.3).

    For y = x/a over the noise level it is dy/du = −½ e^(u/2) std·s_θ, whatever the equation. From u = LOWEST,
    where data are taken to have that noise already, to the horizon; the divergence is exact, by d
    derivatives.
    """
    from torchdiffeq import odeint

    model = copy.deepcopy(model).double().requires_grad_(False)
    levels = torch.tensor([LOWEST, model.highest], dtype=torch.float64)

    def velocity(u: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            y = state[0].detach().requires_grad_()
            level = u.expand(len(y))
            speed = -0.5 * (u / 2).exp() * model.scaled_score(model.scale(level)[:, None] * y, level)
            columns = [torch.autograd.grad(s.sum(), y, retain_graph=True)[0] for s in speed.unbind(1)]
        return speed.detach(), cast("Tensor", sum(c[:, i] for i, c in enumerate(columns)))

    y, growth = odeint(
        velocity,
        (x.double(), x.new_zeros(len(x), dtype=torch.float64)),
        levels,
        rtol=tolerance,
        atol=tolerance,
    )
    spread2 = model.spread**2 + levels[1].exp()
    log_density: Tensor = normal_log_prob(y[-1], torch.zeros_like(spread2), spread2.log()) + growth[-1]
    return log_density


class _Nothing(nn.Module):
    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        return torch.zeros_like(x)


def _flow_check(cls: type[ScoreSDE]) -> Check:
    """The ODE on Gaussian data, whose score needs no network: p(y) = N(0, spread² + e^LOWEST)."""
    model = cls(_Nothing(), cls.grid(4), spread=1.5, dtype=torch.float64)
    x = torch.cartesian_prod(*[torch.linspace(-3, 3, 7, dtype=torch.float64)] * 2)
    exact = torch.distributions.Normal(0.0, math.sqrt(1.5**2 + math.exp(LOWEST))).log_prob(x).sum(1)
    error = (flow_log_density(model, x, 1e-8) - exact).abs().max().item()
    # dopri5's error is at most its 1e-8 a step, of which it takes some tens.
    return Check("log p(x) by the probability-flow ODE, on Gaussian data", error, 1e-6, "nats")
