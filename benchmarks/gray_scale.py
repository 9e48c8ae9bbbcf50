"""The cells of the discrete planar problems: 2^15/(max|x| + 2) over 5,000 points of EB-GFN's sampler.

    python benchmarks/gray_scale.py

Prints mlegfn.data.gray.INT_SCALE anew, from the definitions of the problems and the order in which that sampler asks
numpy's RandomState(1) for numbers; and what other 5,000 points would give.
"""

import math

import numpy as np
import torch
from sklearn import datasets

from mlegfn.data import gray, planar

COUNT = 5000


def extremes(problem):
    """max|x| over their points."""
    draw, n = np.random.RandomState(1), COUNT
    if problem == "8gaussians":
        # A point at a time: its noise, then its centre. The centres' order: the axes first.
        eighths, points = (0, 4, 2, 6, 1, 7, 3, 5), []
        for _ in range(n):
            noise, centre = draw.randn(2) / 2, eighths[draw.randint(8)]
            angle = centre * math.pi / 4
            points.append(noise + 4 * np.array([math.cos(angle), math.sin(angle)]))
        points = np.array(points) / 1.414
    elif problem == "2spirals":
        angle = 3 * np.pi * np.sqrt(draw.rand(n // 2))
        arm = np.stack(
            [-np.cos(angle) * angle + draw.rand(n // 2) / 2, np.sin(angle) * angle + draw.rand(n // 2) / 2], 1
        )
        points = np.concatenate([arm, -arm]) / 3
        points = points + draw.randn(*points.shape) / 10
    elif problem == "pinwheel":
        radial, tangential = (draw.randn(n, 2) * [0.3, 0.1] + [1, 0]).T
        angle = np.repeat(np.arange(5), n // 5) * 2 * np.pi / 5 + np.exp(radial) / 4
        cos, sin = np.cos(angle), np.sin(angle)
        points = 2 * np.stack([radial * cos + tangential * sin, tangential * cos - radial * sin], 1)
    elif problem == "checkerboard":
        x = 4 * draw.rand(n) - 2
        y = draw.rand(n) - 2 * draw.randint(0, 2, n) + np.floor(x) % 2
        points = 2 * np.stack([x, y], 1)
    elif problem == "circles":
        points = 3 * datasets.make_circles(n, factor=0.5, noise=0.08, random_state=draw)[0]
    elif problem == "moons":
        points = 2 * datasets.make_moons(n, noise=0.1, random_state=draw)[0] + [-1, -0.2]
    else:
        points = datasets.make_swiss_roll(n, noise=1.0, random_state=draw)[0][:, ::2] / 5
    return np.abs(points).max()


def scale(largest):
    return 2**gray.MAGNITUDE_BITS / (largest + 2)


if __name__ == "__main__":
    for problem, used in gray.INT_SCALE.items():
        others = [
            scale(planar.sample(problem, COUNT, torch.Generator().manual_seed(s)).abs().max().item())
            for s in range(50)
        ]
        print(
            f"{problem}: {scale(extremes(problem)):.4f} (used: {used}); of 50 other draws {min(others):.1f} to "
            f"{max(others):.1f}, which is {2 * math.log(max(others) / min(others)):.3f} nats of NLL"
        )
