"""What the flows share: their planar data, vector fields with known answers, and how densities are compared."""

import math

import torch
from torch import nn
from zuko.nn import MLP

from mlegfn.data import planar
from mlegfn.data.mmd import mmd2_unbiased, mmd_floor
from mlegfn.data.planar_density import entropy, log_density
from mlegfn.networks.mlp import plane_waves
from mlegfn.randomness import generator

PROBLEM = "pinwheel"  # its thinnest part, the width of an arm, has a standard deviation of 0.2
SAMPLES = 1000  # for MMD², and shown
SCALE = 1.5  # standard deviation of x_T in each coordinate, about that of the data


class Velocity(nn.Module):
    """v_θ(x, s): [N, 2], s [N] in [0, 1] → [N, 2], a smooth perceptron.

    Its inputs are x, plane waves of x that fade in with s (at s = 0 x is noise and has no detail), s, and sines and
    cosines of πs, 2πs, 3πs.
    """

    WAVE = 1 / 1.5  # plane_waves() are for unit variance, the planar problems' is about 1.5²

    def __init__(self, hidden, dtype=torch.float32):
        super().__init__()
        self.register_buffer("waves", self.WAVE * plane_waves(), persistent=False)
        self.register_buffer("frequencies", math.pi * torch.arange(1.0, 4.0), persistent=False)
        width = 2 + 2 * self.waves.shape[1] + 1 + 2 * len(self.frequencies)
        self.network = MLP(width, 2, (hidden, hidden), activation=nn.SiLU)
        self.to(dtype)

    def forward(self, x, s):
        s = s[:, None]
        wave, time = x @ self.waves, s * self.frequencies
        features = [x, s * wave.sin(), s * wave.cos(), s, time.sin(), time.cos()]
        return self.network(torch.cat(features, 1))


class LinearField(nn.Module):
    """v(x) = A x + c, for which all is known: N(0, I) at s = 0 is N(m_s, C_s) at s,

    m_s = ∫_0^s e^{Ar} c dr,  C_s = e^{As} e^{Aᵀs}.
    """

    def __init__(self, matrix, shift):
        super().__init__()
        self.matrix, self.shift = nn.Parameter(matrix), nn.Parameter(shift)

    @classmethod
    def example(cls, dtype=torch.float64):
        """Rotates, shears and stretches: neither symmetric nor normal, and tr A ≠ 0."""
        return cls(torch.tensor([[0.3, -0.9], [0.5, -0.6]], dtype=dtype), torch.tensor([0.4, -0.2], dtype=dtype))

    def forward(self, x, s):
        return x @ self.matrix.T + self.shift

    def marginal(self, s):
        """The ``MultivariateNormal`` of x_s, s a float."""
        augmented = torch.cat([self.matrix, self.shift[:, None]], 1)
        flow = torch.linalg.matrix_exp(s * torch.cat([augmented, torch.zeros_like(augmented[:1])]))
        return torch.distributions.MultivariateNormal(flow[:2, 2], scale_tril=_lower(flow[:2, :2]))


def _lower(matrix):
    """The Cholesky factor L of M Mᵀ, without forming it: M = L Q."""
    return torch.linalg.cholesky(matrix @ matrix.T)


def velocity_and_divergence(field, x, s):
    """(v [N, 2], ∇·v [N]) at x [N, 2], s [N]: the exact trace of ∂v/∂x, by one tangent a coordinate."""
    value, divergence = None, 0.0
    for axis in range(x.shape[1]):
        tangent = torch.zeros_like(x)
        tangent[:, axis] = 1
        value, derivative = torch.func.jvp(lambda y: field(y, s), (x,), (tangent,))
        divergence = divergence + derivative[:, axis]
    return value, divergence


def jacobian(function, x):
    """[N, 2, 2]: ∂function/∂x of each row; ``function`` [N, 2] → [N, 2] treats rows alone."""
    columns = []
    for axis in range(x.shape[1]):
        tangent = torch.zeros_like(x)
        tangent[:, axis] = 1
        columns.append(torch.func.jvp(function, (x,), (tangent,))[1])
    return torch.stack(columns, 2)


def log_normal(residual, std):
    """[N]: log N(residual; 0, std² I), residual [N, 2]."""
    return -0.5 * (residual / std).square().sum(1) - residual.shape[1] * math.log(std * math.sqrt(2 * math.pi))


def on_graph(states, images):
    """[N]: 0 where ``states`` [N, 2] are ``images`` of their step, −∞ elsewhere, up to a tolerance.

    A policy that is a Dirac measure can be asked only up to rounding: eps^0.4 is 5e-7 in float64 and 2e-3 in float32,
    relative to a state of size 1.
    """
    tolerance = torch.finfo(states.dtype).eps ** 0.4
    distance = (states.detach() - images.detach()).abs().amax(1)
    allowed = distance <= tolerance * (1 + images.detach().abs().amax(1))
    return torch.zeros_like(distance).masked_fill(~allowed, -math.inf)


def mass(log_prob, side, points):
    """∫ p over [−side, side]² by the trapezoidal rule, ``points`` an axis."""
    axis = torch.linspace(-side, side, points, dtype=torch.float64)
    with torch.no_grad():
        return log_prob(torch.cartesian_prod(axis, axis)).exp().sum().item() * (axis[1] - axis[0]).item() ** 2


def gradient(model, value):
    """[P]: ∂ value / ∂ all parameters, flat."""
    grads = torch.autograd.grad(value, list(model.parameters()))
    return torch.cat([g.flatten() for g in grads])


def relative(a, b):
    """‖a − b‖ / ‖b‖."""
    return ((a - b).norm() / b.norm()).item()


def flow_matching(velocity, x1, rng, scale, smallest):
    """Conditional flow matching (Lipman et al. 2023, arXiv 2210.02747, eq. 23): a scalar, for data x1 [N, 2].

    x_s = s x_1 + σ_s z,  σ_s = scale − (scale − smallest) s,  z ~ N(0, I):  E ‖v(x_s, s) − ∂x_s/∂s‖²
    """
    noise = torch.randn(x1.shape, generator=rng, dtype=x1.dtype)
    s = torch.rand(len(x1), generator=rng, dtype=x1.dtype)
    x_s = s[:, None] * x1 + (scale - (scale - smallest) * s)[:, None] * noise
    return (velocity(x_s, s) - (x1 - (scale - smallest) * noise)).square().sum(1).mean()


def problem(settings):
    """(train [n, 2], test [m, 2]), float32: one draw for all flows and seeds."""
    train = planar.sample(PROBLEM, settings.train_points, generator(0, "flows", "train"))
    return train, planar.sample(PROBLEM, settings.test_points, generator(0, "flows", "test"))


def minibatch(data, settings, rng):
    """[batch, 2] of ``data``, drawn with replacement."""
    return data[torch.randint(len(data), (settings.batch,), generator=rng)]


def scores(log_prob, what, test, samples):
    """The numbers of a planar model: ``log_prob`` [m] of the test points, called ``what``, and 1000 samples."""
    nll, own = -log_prob.double(), -log_density(PROBLEM, test)
    floor = mmd_floor(lambda n, k: planar.sample(PROBLEM, n, generator(0, "flows", "floor", k)), len(samples), 4)
    fresh = planar.sample(PROBLEM, len(samples), generator(0, "flows", "mmd"))
    return {
        f"test NLL, nats ({what})": nll.mean().item(),
        "entropy of the data, nats": entropy(PROBLEM),
        "test NLL less that of the data's own density, nats": (nll - own).mean().item(),
        "MMD²": mmd2_unbiased(samples, fresh),
        "95 % of MMD² between samples of the data": floor["quantile_95"],
    }
