"""Generative models as GFlowNets: objectives on log-probabilities, diffusion models, model families, targets.

Start at :mod:`mlegfn.objectives` for log-probabilities of one's own, at :func:`mlegfn.mle_gfn.loss` for a network of one's
own, at :func:`mlegfn.diffusion.likelihood.bits_per_dim` for its likelihood; docs/library.md has an example of each.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
