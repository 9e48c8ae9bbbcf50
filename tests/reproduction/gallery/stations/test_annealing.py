"""Station ``annealing``: the check on a chain whose likelihood is known."""

from types import SimpleNamespace

import pytest

from reproduction.gallery.stations import annealing


def linear_check(monkeypatch=None, shift=0.0):
    points = SimpleNamespace(
        repeats=100, timesteps=10, beta_start=0.05, beta_end=0.6, temperatures=[4], leapfrogs=3, step=0.6
    )
    if shift:
        exact = annealing.linear_log_prob
        monkeypatch.setattr(annealing, "linear_log_prob", lambda model, x: exact(model, x) - shift)
    return annealing.linear_check(SimpleNamespace(points=points, seed=0))


def test_the_annealed_estimate_has_the_exact_mean():
    quantity = linear_check()
    assert quantity.count == 1600 and quantity.standard_error < 0.02
    assert abs(quantity.values[0]) < 4 * quantity.standard_error


def test_an_error_of_a_tenth_of_a_nat_is_seen(monkeypatch):
    quantity = linear_check(monkeypatch, shift=0.1)
    assert quantity.values[0] == pytest.approx(0.105, abs=4 * quantity.standard_error)
