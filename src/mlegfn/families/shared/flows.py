"""What the flows share: their planar data, vector fields with known answers, and how densities are compared."""

import functools
import math
from collections.abc import Callable
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zuko.nn import MLP

from mlegfn.data import planar
from mlegfn.data.mmd import mmd2_unbiased, mmd_floor
from mlegfn.data.planar_density import entropy, log_density
from mlegfn.families.shared.family import Family, Fit, Panel, Settings
from mlegfn.networks.mlp import plane_waves
from mlegfn.randomness import generator, seed_layers

__all__ = [
    "PROBLEM",
    "SCALE",
    "SMALLEST",
    "Field",
    "LinearField",
    "Velocity",
    "fitted",
    "log_normal",
    "mass",
    "minibatch",
    "mmd_between_data",
    "ode_log_prob",
    "on_graph",
    "problem",
    "scores",
    "value_and_jacobian",
    "velocity_and_divergence",
]

PROBLEM = "pinwheel"  # its thinnest part, the width of an arm, has a standard deviation of 0.2
SCALE = 1.5  # standard deviation of x_T in each coordinate, about that of the data
SMALLEST = 0.05  # what flow matching smears the data by


class Field(Protocol):
    """v(x, s): [N, 2], s [N] in [0, 1] → [N, 2], from N(0, scale² I) at s = 0."""

    @property
    def scale(self) -> float: ...

    def __call__(self, x: Tensor, s: Tensor) -> Tensor: ...

    def score(self, x: Tensor, s: Tensor, velocity: Tensor) -> Tensor:
        """[N, 2]: ∇ log p_s(x); ``velocity`` is v(x, s)."""


class Velocity(nn.Module):
    """v_θ(x, s): [N, 2], s [N] in [0, 1] → [N, 2], a smooth perceptron.

    Trained by :meth:`matching`, whose paths x_s = s x_1 + σ_s z go straight from z ~ N(0, I) to data x_1, with
    σ_s = scale − (scale − smallest) s. The network's inputs are x, plane waves of x that fade in with s (at s = 0 x is noise and has no detail), s, and sines and
    cosines of πs, 2πs, 3πs.
    """

    waves: Tensor
    frequencies: Tensor

    WAVE = 1 / 1.5  # plane_waves() are for unit variance, the planar problems' is about 1.5²

    def __init__(
        self,
        hidden: int,
        scale: float = SCALE,
        smallest: float = SMALLEST,
        waves: int = 32,
        frequencies: int = 3,
    ) -> None:
        super().__init__()
        self.scale, self.smallest = scale, smallest
        self.register_buffer("waves", self.WAVE * plane_waves()[:, :waves], persistent=False)
        self.register_buffer("frequencies", math.pi * torch.arange(1.0, frequencies + 1), persistent=False)
        width = 2 + 2 * self.waves.shape[1] + 1 + 2 * len(self.frequencies)
        self.network = MLP(width, 2, (hidden, hidden), activation=nn.SiLU)

    @classmethod
    def tiny(cls, dtype: torch.dtype, *key: *tuple[int, *tuple[str, ...]], **sizes: float) -> Self:
        """Small, smooth, and far from 0; x_T is so wide that the property tests' weights have a variance."""
        with torch.random.fork_rng([]):
            seed_layers(*key)
            velocity = cls(8, scale=1.8, waves=2, frequencies=1, **sizes).to(dtype)
        with torch.no_grad():
            velocity.network[-1].weight.mul_(3)
        return velocity

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        s = s[:, None]
        wave, time = x @ self.waves, s * self.frequencies
        features = [x, s * wave.sin(), s * wave.cos(), s, time.sin(), time.cos()]
        velocity: Tensor = self.network(torch.cat(features, 1))
        return velocity

    def matching(self, x1: Tensor, rng: torch.Generator) -> Tensor:
        """Conditional flow matching (Lipman et al. 2023, arXiv 2210.02747, eq. 23), a scalar, for data x1 [N, 2]:
        E ‖v(x_s, s) − ∂x_s/∂s‖²."""
        noise = torch.randn(x1.shape, generator=rng, dtype=x1.dtype)
        s = torch.rand(len(x1), generator=rng, dtype=x1.dtype)
        fall = self.scale - self.smallest
        x_s = s[:, None] * x1 + (self.scale - fall * s)[:, None] * noise
        error: Tensor = (self(x_s, s) - (x1 - fall * noise)).square().sum(1).mean()
        return error

    def score(self, x: Tensor, s: Tensor, velocity: Tensor) -> Tensor:
        """[N, 2]: ∇ log p_s(x), which v(x, s) = ``velocity`` knows.

        v = E[x_1 − (scale − smallest) z | x_s = x] and x = E[s x_1 + σ_s z | x], so E[z | x] = (x − s v) / scale, and the
        score is −E[z | x] / σ_s (Albergo et al. 2023, arXiv 2303.08797, eq. 2.14).
        """
        s = s[:, None]
        return (s * velocity - x) / (self.scale * (self.scale - (self.scale - self.smallest) * s))


class LinearField(nn.Module):
    """v(x) = A x + c, for which all is known: N(0, I) at s = 0 is N(m_s, C_s) at s,

    m_s = ∫_0^s e^{Ar} c dr,  C_s = e^{As} e^{Aᵀs}.
    """

    scale = 1.0

    def __init__(self, matrix: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.matrix, self.shift = nn.Parameter(matrix), nn.Parameter(shift)

    @classmethod
    def example(cls, dtype: torch.dtype = torch.float64) -> Self:
        """Rotates, shears and stretches: neither symmetric nor normal, and tr A ≠ 0."""
        matrix = torch.tensor([[0.3, -0.9], [0.5, -0.6]], dtype=dtype)
        return cls(matrix, torch.tensor([0.4, -0.2], dtype=dtype))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        return x @ self.matrix.T + self.shift

    def flow(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """(e^{As} [K, 2, 2], m_s [K, 2]) at the times s [K]."""
        augmented = F.pad(torch.cat([self.matrix, self.shift[:, None]], 1), (0, 0, 0, 1))  # d(x, 1)/ds
        exponential = torch.linalg.matrix_exp(s[:, None, None] * augmented)
        return exponential[:, :2, :2], exponential[:, :2, 2]

    def log_prob(self, x: Tensor) -> Tensor:
        """[N]: log N(x; m_1, C_1)."""
        matrix, mean = self.flow(torch.ones_like(x[:1, 0]))
        start = torch.linalg.solve(matrix[0], (x - mean).T).T
        log_prob: Tensor = log_normal(start, self.scale) - torch.linalg.slogdet(matrix[0])[1]
        return log_prob

    def score(self, x: Tensor, s: Tensor, velocity: Tensor) -> Tensor:
        """[N, 2]: ∇ log N(x; m_s, C_s)."""
        times, row = s.unique(return_inverse=True)
        matrix, mean = self.flow(times)
        precision: Tensor = torch.linalg.inv(matrix @ matrix.mT)
        return -(precision[row] @ (x - mean[row])[..., None])[..., 0]

    def expected_log_w(self, x: Tensor, sigma: float, timesteps: int) -> Tensor:
        """[N]: E log w(τ) over τ ~ P_B(·|x) of the Euler steps N(x + h v, σ²h) and N(x′ − h v′, σ²h), exactly.

        docs/math.md: log p(x_T) − tr A − ½h ‖A‖² − (h³/2σ²) Σ |A v′|² on average, x′ Gaussian at every step.
        """
        h, step = 1 / timesteps, torch.eye(2, dtype=x.dtype) - self.matrix / timesteps
        value, vectors = torch.linalg.eig(step)
        powers: Tensor = value ** torch.arange(timesteps + 1)[:, None]
        powers = (vectors * powers[:, None] @ torch.linalg.inv(vectors)).real  # [T+1, 2, 2], step^k
        spread = sigma**2 * h * (powers @ powers.mT).cumsum(0)
        spread = torch.cat([torch.zeros_like(spread[:1]), spread[:-1]])
        rest: Tensor = -torch.linalg.solve(self.matrix, self.shift)  # where v = 0
        mean = rest + torch.einsum("kij,nj->nki", powers, x - rest)
        twice = self.matrix @ self.matrix
        bend = ((mean - rest) @ twice.T).square().sum(2) + (twice @ spread @ twice.T).diagonal(0, 1, 2).sum(1)
        prior = log_normal(mean[:, -1], self.scale) - spread[-1].trace() / 2
        norm = self.matrix.square().sum()
        return prior - self.matrix.trace() - h / 2 * norm - h**3 / (2 * sigma**2) * bend[:, :-1].sum(1)


def value_and_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """(function(x) [N, 2], ∂function/∂x [N, 2, 2]) of a ``function`` that treats rows alone, exact.

    By one backward pass an output: torch's forward mode takes 2.5 to 6 times as long for networks this small.
    """
    recording = torch.is_grad_enabled()
    with torch.enable_grad():
        if not (recording and x.requires_grad):
            x = x.detach().requires_grad_()
        value = function(x)
        rows = [
            torch.autograd.grad(value[:, i].sum(), x, create_graph=recording, retain_graph=True)[0]
            for i in range(value.shape[1])
        ]
    return value if recording else value.detach(), torch.stack(rows, 1)


def velocity_and_divergence(field: Field, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """(v [N, 2], ∇·v [N]) at x [N, 2], s [N]; the exact trace."""
    value, jacobian = value_and_jacobian(lambda y: field(y, s), x)
    return value, jacobian.diagonal(0, 1, 2).sum(1)


def ode_log_prob(velocity: Field, x: Tensor, tolerance: float | None = None) -> Tensor:
    """[N]: log p(x) of the flow dx/ds = ``velocity``(x, s), s in 0…1, that starts at N(0, ``velocity.scale``² I).

    By one solve from s = 1 back to 0 with an adaptive scheme of order 5, dopri5, whose relative and absolute
    ``tolerance`` is 1e-9 for float64 and 1e-5 for float32 if it is not given.
    """
    from torchdiffeq import odeint

    def augmented(s: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return velocity_and_divergence(velocity, state[0], s.expand(len(x)))

    if tolerance is None:
        tolerance = 1e-9 if x.dtype == torch.float64 else 1e-5
    span = torch.tensor([1.0, 0.0], dtype=x.dtype)
    state = (x, torch.zeros_like(x[:, 0]))
    x_T, log_det = odeint(augmented, state, span, rtol=tolerance, atol=tolerance, method="dopri5")
    log_prob: Tensor = log_normal(x_T[-1], velocity.scale) + log_det[-1]
    return log_prob


def log_normal(residual: Tensor, std: float) -> Tensor:
    """[N]: log N(residual; 0, std² I), residual [N, 2]."""
    norm = residual.shape[1] * math.log(std * math.sqrt(2 * math.pi))
    return -0.5 * (residual / std).square().sum(1) - norm


def on_graph(states: Tensor, images: Tensor) -> Tensor:
    """[N]: 0 where ``states`` [N, 2] are ``images`` of their step, −∞ elsewhere, up to a tolerance.

    A policy that is a Dirac measure can be asked only up to rounding: eps^0.4 is 5e-7 in float64 and 2e-3 in float32,
    relative to a state of size 1.
    """
    tolerance = torch.finfo(states.dtype).eps ** 0.4
    distance = (states.detach() - images.detach()).abs().amax(1)
    allowed = distance <= tolerance * (1 + images.detach().abs().amax(1))
    return torch.zeros_like(distance).masked_fill(~allowed, -math.inf)


def mass(log_prob: Callable[[Tensor], Tensor], side: float, points: int) -> float:
    """∫ p over [−side, side]² by the trapezoidal rule, ``points`` an axis."""
    axis = torch.linspace(-side, side, points, dtype=torch.float64)
    with torch.no_grad():
        return log_prob(torch.cartesian_prod(axis, axis)).exp().sum().item() * (axis[1] - axis[0]).item() ** 2


def problem(settings: Settings) -> tuple[Tensor, Tensor]:
    """(train [n, 2], test [m, 2]), float32: one draw for all flows and seeds."""
    return _sample("train", settings.train_points), _sample("test", settings.test_points)


def minibatch(data: Tensor, settings: Settings, rng: torch.Generator) -> Tensor:
    """[batch, 2] of ``data``, drawn with replacement."""
    return data[torch.randint(len(data), (settings.batch,), generator=rng)]


def scores(log_prob: Tensor, what: str, test: Tensor, samples: Tensor) -> dict[str, float]:
    """The numbers of a planar model: ``log_prob`` [m] of the test points, called ``what``, and samples [n, 2]."""
    nll, own = -log_prob.double(), -log_density(PROBLEM, test)
    return {
        f"test NLL, nats ({what})": nll.mean().item(),
        "entropy of the data, nats": entropy(PROBLEM),
        "test NLL less that of the data's own density, nats": (nll - own).mean().item(),
        "MMD²": mmd2_unbiased(samples, _sample("mmd", len(samples))),
        "95 % of MMD² between two samples of the data": mmd_between_data(len(samples)),
    }


def fitted(model: Family, log_prob: Tensor, what: str, data: Tensor, test: Tensor, states: Tensor) -> Fit:
    """The ``Fit`` of a deterministic flow: ``scores``, and panels of the data, of states [T+1, n, 2] at t = 0 and half
    way."""
    return Fit(
        model,
        scores(log_prob, what, test, states[0]),
        [
            Panel("data", "points", data[:1000]),
            Panel("samples", "points", states[0]),
            Panel("half way", "points", states[model.timesteps // 2]),
        ],
    )


@functools.cache
def mmd_between_data(count: int) -> float:
    """The 0.95 quantile of MMD² between two samples of ``count`` data, from 20 pairs."""
    sampler = functools.partial(_sample, "floor")
    return mmd_floor(sampler, count, 20)["quantile_95"]


def _sample(key: str, count: int, index: int = 0) -> Tensor:
    return planar.sample(PROBLEM, count, generator(0, "flows", key, index))
