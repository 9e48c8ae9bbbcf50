"""Between two unit vectors, along the sphere."""

import torch

__all__ = ["slerp"]


def slerp(a, b, fraction):
    """[..., E]: the unit vector at ``fraction`` of the way from a to b along their great circle (Shoemake 1985).

        sin((1 − f)θ)/sin θ · a + sin(fθ)/sin θ · b,   cos θ = a·b

    a, b: [..., E] of length 1; fraction 0 gives a and 1 gives b. Equal vectors stay where they are.

    :raises ValueError: for vectors that are not of length 1, and opposite ones, between which there is no one way
    """
    for vector in (a, b):
        if not torch.allclose(vector.norm(dim=-1), torch.ones(()).to(vector), atol=1e-4):
            raise ValueError("slerp is defined between vectors of length 1")
    cosine = (a * b).sum(-1, keepdim=True).clamp(-1, 1)
    if (cosine < -1 + 1e-6).any():
        raise ValueError("between opposite vectors there is no shortest way")
    angle = cosine.acos()
    near = angle < 1e-3  # there the chord is as good, and sin θ = 0 is not divided by
    sine = torch.where(near, torch.ones_like(angle), angle.sin())
    along = ((1 - fraction) * angle).sin() / sine * a + (fraction * angle).sin() / sine * b
    point = torch.where(near, (1 - fraction) * a + fraction * b, along)
    return torch.nn.functional.normalize(point, dim=-1)
