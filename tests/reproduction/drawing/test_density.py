"""Smoothed histograms count points, and a figure of them has a column a problem and a row a source."""

import numpy as np
import pytest

from reproduction.drawing import density


@pytest.fixture
def points():
    return np.random.default_rng(8).normal(size=(500, 2)).astype(np.float32)


def test_the_window_is_a_square_that_holds_almost_all_points(points):
    (left, right), (bottom, top) = density.window(points)
    assert right - left == pytest.approx(top - bottom)
    inside = (points > (left, bottom)).all(axis=1) & (points < (right, top)).all(axis=1)
    assert inside.mean() > 0.98
    far = density.window(np.concatenate([points, [[1e6, 1e6]]]))
    assert np.ptp(far) < 20  # one far point does not shrink the picture


def test_a_density_is_the_share_of_points_inside(points):
    frame = density.window(points)
    (left, right), (bottom, top) = frame
    inside = ((points > (left, bottom)).all(axis=1) & (points < (right, top)).all(axis=1)).mean()
    assert density.density(points, frame).sum() == pytest.approx(inside, abs=0.01)
    assert density.density(points + 100, frame).sum() == 0


def test_a_grid_has_a_column_a_problem_and_a_row_a_source(points):
    samples = {name: {"data": points, "model": points + 1} for name in ("moons", "circles", "rings")}
    figure = density.grid(samples, {"data": "Data", "model": "Model"})
    assert len(figure.axes) == 6
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["moons", "circles", "rings"]
    first_data, first_model = (axes.images[0] for axes in figure.axes[:2])
    assert first_data.get_extent() == first_model.get_extent()
    assert first_data.get_clim() == first_model.get_clim()
