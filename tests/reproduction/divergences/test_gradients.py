"""The spread of gradient estimates."""

import torch

from mlegfn.randomness import generator
from reproduction.divergences.gradients import GROUP, spread


def test_the_spread_of_gradients_is_unbiased():
    """Normal with variances 1, 4, 9 about (1, 0, 2): trace 14, ‖mean‖² 5; sets of five, within 5 standard errors."""
    rng = generator(0, "spread")
    draws = torch.randn(4000, 5, 3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0])
    spreads = [spread(draw + torch.tensor([1.0, 0.0, 2.0])) for draw in draws]
    for key, value in (("trace", 14.0), ("mean_square", 5.0)):
        values = torch.tensor([one[key] for one in spreads], dtype=torch.float64)
        assert abs(values.mean() - value) < 5 * values.std() / len(values) ** 0.5, key


def test_the_traces_of_groups_are_unbiased_and_independent():
    """As above: the mean trace is 14, and neighbouring groups, which share no estimate, are uncorrelated."""
    rng = generator(0, "groups")
    draws = torch.randn(4000, 2 * GROUP + 1, 3, generator=rng, dtype=torch.float64)
    draws = draws * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor([1.0, 0.0, 2.0])
    traces = torch.tensor([spread(draw)["traces"] for draw in draws], dtype=torch.float64)
    assert traces.shape == (4000, 2)  # the last estimate is in no whole group
    assert ((traces.mean(0) - 14).abs() < 5 * traces.std(0) / 4000**0.5).all()
    assert abs(torch.corrcoef(traces.T)[0, 1]) < 5 / 4000**0.5


def test_too_few_estimates_for_a_group():
    assert spread(torch.randn(GROUP - 1, 3, generator=generator(0, "few")))["traces"] == []
