"""The training package's name for ``mlegfn.randomness`` (which diffusion/ may import too)."""

from mlegfn.randomness import batch_indices, generator, seed_layers

__all__ = ["batch_indices", "generator", "seed_layers"]
