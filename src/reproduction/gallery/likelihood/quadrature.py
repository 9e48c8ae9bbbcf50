"""p(x_0) of a generating chain in the plane, by numerical integration over x_T, …, x_1."""

import math

import torch

__all__ = ["log_prob_by_quadrature"]


@torch.no_grad()
def log_prob_by_quadrature(model, x, side, points):
    """[N] float64: log p(x), nats, of points x [N, 2] under a DenoisingModel of continuous data with fixed variances.

    p(x_{t−1}) = ∫ N(x_{t−1}; μ_θ(x_t, t), σ_t² I) p(x_t) dx_t by the trapezoidal rule on a grid of points² over
    [−side, side]², which for smooth integrands that vanish at the edge converges faster than any power of the spacing.
    The kernel is a product over the two coordinates, so a step is one product of matrices. ValueError where the spacing
    is wider than the narrowest σ_t, for there the rule says nothing.
    """
    if model.levels is not None or model.log_variance is None or x.ndim != 2 or x.shape[1] != 2:
        raise ValueError("quadrature is for points [N, 2] of a model with fixed variances and without levels")
    axis = torch.linspace(-side, side, points, dtype=torch.float64)
    spacing, std = (axis[1] - axis[0]).item(), (0.5 * model.log_variance).exp()
    if spacing > std[1:].min():
        raise ValueError(
            f"a spacing of {spacing:.3g} is too wide for steps of standard deviation {std[1:].min():.3g}"
        )
    grid = torch.cartesian_prod(axis, axis)
    density = model.log_prior(grid).exp()
    for t in range(model.timesteps, 0, -1):
        times = torch.full((len(grid),), t)
        mean = model.process.reverse_mean(grid, times, model.predict(grid, times).eps)
        first, second = (normal(axis if t > 1 else x[:, k], mean[:, k], std[t].item()) for k in (0, 1))
        if t > 1:
            density = ((first * (density * spacing**2)) @ second.T).flatten()
    return ((first * second) @ (density * spacing**2)).log()


def normal(values, means, std):
    """[V, G]: the normal density of values [V] around means [G]."""
    return torch.exp(-0.5 * ((values[:, None] - means) / std) ** 2) / (std * math.sqrt(2 * math.pi))
