"""Numbers about samples, beside the likelihood: what works offline everywhere, and FID where its weights are."""

from mlegfn.quality.measure import draw, measure

__all__ = ["draw", "measure"]
