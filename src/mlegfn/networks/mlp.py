"""A small time-conditioned perceptron for points in the plane."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TimeMLP"]

TIME_FEATURES = 32
WAVES = 32
WAVE_SCALE = 3.0  # radians a unit of x; the planar problems have unit variance and details of 0.05


class TimeMLP(nn.Module):
    """(x [N, 2], time int64 [N] in 0…T−1) → ε_θ [N, 2], or [N, 4] with learned variances (outputs = 2).

        h_0 = SiLU(W [x, a(t)·sin(Kx), a(t)·cos(Kx)] + e_0(t)),  h_l = h_{l−1} + SiLU(W_l h_{l−1} + e_l(t)),
        ε_θ = W h_L + g(t) x

    K are fixed plane waves (Fourier features: Tancik et al. 2020, arXiv 2006.10739), without which a network
    of this size would need many more steps for sharp edges. Their amplitudes a depend on the time, because
    fine waves say nothing of a noisy x. The linear part g is what a Gaussian would need. a, e and g are
    linear in the transformer's sinusoidal features of t (Vaswani et al. 2017, §3.5). There are only T
    times, so they are computed for all of them once a call and looked up.
    """

    waves: Tensor
    time_features: Tensor

    def __init__(self, timesteps: int, hidden: int, layers: int, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = outputs
        self.sizes = [2 * WAVES, *[hidden] * (layers + 1), 1]
        self.entry = nn.Linear(2 + 2 * WAVES, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.time = nn.Linear(TIME_FEATURES, sum(self.sizes))
        self.exit = nn.Linear(hidden, 2 * outputs)
        nn.init.zeros_(self.exit.weight)
        self.register_buffer("waves", plane_waves(), persistent=False)
        self.register_buffer("time_features", time_features(timesteps), persistent=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        amplitude, first, *shifts, gain = self.time(self.time_features).split(self.sizes, 1)
        angle = x @ self.waves
        waves = torch.cat([angle.sin(), angle.cos()], 1) * F.embedding(time, amplitude)
        h = F.silu(self.entry(torch.cat([x, waves], 1)) + F.embedding(time, first))
        for layer, shift in zip(self.layers, shifts, strict=True):
            h = h + F.silu(layer(h) + F.embedding(time, shift))
        linear = F.embedding(time, gain) * x
        out: Tensor = self.exit(h)
        return out + (linear if self.outputs == 1 else F.pad(linear, (0, 2)))


def plane_waves() -> Tensor:
    """[2, WAVES] wave vectors: normal with standard deviation WAVE_SCALE, but spread evenly, not drawn.

    Lengths are the quantiles of that normal's length (Rayleigh), directions turn by the golden angle.
    """
    k = torch.arange(WAVES, dtype=torch.float64)
    length = WAVE_SCALE * (-2 * torch.log1p(-(k + 0.5) / WAVES)).sqrt()
    direction = k * math.pi * (3 - math.sqrt(5))
    return torch.stack([length * direction.cos(), length * direction.sin()]).float()


def time_features(timesteps: int) -> Tensor:
    """[T, TIME_FEATURES]: sines and cosines of t over periods from 2π to T·2π steps."""
    half = TIME_FEATURES // 2
    frequency = torch.exp(-math.log(max(timesteps, 2)) * torch.arange(half) / (half - 1))
    angle = torch.arange(timesteps)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)
