"""Numbers about samples, beside the likelihood: what works offline everywhere, and FID where its weights are."""

from mlegfn.quality.measuring import draw, measure

__all__ = ["draw", "measure"]
