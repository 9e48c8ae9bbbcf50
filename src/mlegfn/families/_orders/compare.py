"""Numbers that say how far two computations of the same thing are apart."""

import torch

__all__ = ["gradient", "largest", "relative"]


def gradient(value, parameters):
    """[P]: the gradient of a scalar in all ``parameters``, joined; the graph is kept."""
    return torch.cat(
        [part.flatten() for part in torch.autograd.grad(value, list(parameters), retain_graph=True)]
    )


def relative(a, b):
    """‖a − b‖ / ‖b‖. NaN, which no tolerance admits, where b = 0."""
    return ((a - b).norm() / b.norm()).item()


def largest(a, b):
    """max |a − b|."""
    return (a - b).abs().max().item()
