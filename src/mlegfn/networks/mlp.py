"""A small time-conditioned perceptron for points in the plane."""

import math

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["TimeMLP"]

TIME_FEATURES = 32
# sin and cos of k·x, k = 1 … 3, beside x itself: sharp edges cost a small network fewer steps so.
HARMONICS = 3


class TimeMLP(nn.Module):
    """(x [N, D], time int64 [N] in 0…T−1) → ε_θ [N, D·outputs]; outputs = 2 with learned variances.

    A residual perceptron: every layer is h + SiLU(W h + e(t)), where e(t) is the layer's own linear
    map of the transformer's sinusoidal time features (Vaswani et al. 2017, §3.5). There are only T times,
    so e is computed for them all once a call and looked up, which is free beside N of them.
    """

    def __init__(self, timesteps, hidden, layers, dims=2, outputs=1):
        super().__init__()
        self.entry = nn.Linear(dims * (1 + 2 * HARMONICS), hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.time = nn.Linear(TIME_FEATURES, hidden * (layers + 1))
        self.exit = nn.Linear(hidden, dims * outputs)
        self.register_buffer("features", time_features(timesteps), persistent=False)

    def forward(self, x, time):
        angles = torch.cat([k * x for k in range(1, HARMONICS + 1)], 1)
        shift = self.time(self.features).chunk(len(self.layers) + 1, 1)
        h = self.entry(torch.cat([x, angles.sin(), angles.cos()], 1))
        h = F.silu(h + F.embedding(time, shift[0]))
        for layer, e in zip(self.layers, shift[1:], strict=True):
            h = h + F.silu(layer(h) + F.embedding(time, e))
        return self.exit(h)


def time_features(timesteps):
    """[T, TIME_FEATURES]: sines and cosines of t over periods from 2π to T·2π steps."""
    half = TIME_FEATURES // 2
    frequency = torch.exp(-math.log(max(timesteps, 2)) * torch.arange(half) / (half - 1))
    angle = torch.arange(timesteps)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)
