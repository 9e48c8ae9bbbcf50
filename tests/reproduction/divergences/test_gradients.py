"""The spread of gradient estimates."""

import torch

from mlegfn.randomness import generator
from reproduction.divergences.gradients import spread


def test_the_spread_of_gradients_is_unbiased():
    """Normal with variances 1, 4, 9 about (1, 0, 2): trace 14, ‖mean‖² 5; sets of five, within 5 standard errors."""
    rng = generator(0, "spread")
    draws = torch.randn(4000, 5, 3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0])
    spreads = [spread(draw + torch.tensor([1.0, 0.0, 2.0])) for draw in draws]
    for key, value in (("trace", 14.0), ("mean_square", 5.0)):
        values = torch.tensor([one[key] for one in spreads], dtype=torch.float64)
        assert abs(values.mean() - value) < 5 * values.std() / len(values) ** 0.5, key
