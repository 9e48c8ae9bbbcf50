"""The 32-bit Gray code of the planar problems: cells, their mass, and EB-GFN's scale."""

import math
import sys

import pytest
import torch
from helpers.repository import REPOSITORY

from mlegfn.data import gray, planar
from mlegfn.data.planar_density import log_density
from mlegfn.randomness import generator


def test_gray_neighbours_differ_in_one_bit_and_everything_comes_back():
    s = 2.0**15
    cells = (torch.arange(2**15, dtype=torch.float64) + 0.5) / s
    points = torch.stack([cells, -cells], 1)
    x = gray.encode(points, s)
    assert (x.diff(dim=0) != 0).view(-1, 2, 16).sum(2).eq(1).all()
    assert x[:, 0].eq(0).all() and x[:, 16].eq(1).all()
    assert torch.equal(gray.decode(x, s), points)
    assert len(x.unique(dim=0)) == 2**15
    bits = torch.randint(2, (500, 32), generator=generator(0, "bits"))
    assert torch.equal(gray.encode(gray.decode(bits, s), s), bits)


@pytest.mark.parametrize("problem", planar.SAMPLERS)
def test_points_lie_in_their_cells(problem):
    s, points = gray.INT_SCALE[problem], planar.sample(problem, 2000, generator(0, "cells"))
    centres = gray.decode(gray.encode(points, s), s)
    assert (centres - points).abs().max() <= 0.5 / s * (1 + 1e-9)


def test_gray_clamps_what_is_far_away_and_refuses_nonsense():
    far = gray.encode(torch.tensor([[1e9, -1e9]]), 100.0)
    assert torch.equal(gray.decode(far, 100.0), torch.tensor([[327.675, -327.675]], dtype=torch.float64))
    for points in (torch.zeros(3), torch.zeros(2, 3), torch.tensor([[0.0, math.nan]])):
        with pytest.raises(ValueError):
            gray.encode(points, 1.0)
    for x in (torch.zeros(1, 31, dtype=torch.long), torch.full((1, 32), 2)):
        with pytest.raises(ValueError):
            gray.decode(x, 1.0)


def test_cells_are_those_of_eb_gfn():
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    import gray_scale

    for problem, used in gray.INT_SCALE.items():
        # float32 points there, for some problems, and four decimals here
        assert gray_scale.scale(gray_scale.extremes(problem)) == pytest.approx(used, abs=1e-3), problem


def test_a_cell_has_the_densitys_mass():
    """log p(cell) = log p(centre) − log_cells: what data_entropy rests on, against normal distribution functions."""
    s = gray.INT_SCALE["8gaussians"]
    centres = gray.decode(gray.encode(planar.sample("8gaussians", 200, generator(0, "mass")), s), s).double()
    mass = torch.zeros(len(centres), dtype=torch.float64)
    for centre in planar.gaussians_centres():
        edges = [((centres + sign * 0.5 / s) - centre) / planar.GAUSSIANS_STD for sign in (1, -1)]
        mass += (torch.special.ndtr(edges[0]) - torch.special.ndtr(edges[1])).prod(1) / 8
    difference = mass.log() - (log_density("8gaussians", centres) - gray.log_cells("8gaussians"))
    # (z² − 1)·(1/sσ)²/24 a coordinate, with 1/sσ = 5e-4: 1e-7 at z = 4; and 1e-12 lost in each difference of two
    # distribution functions 2e-4 apart.
    assert difference.abs().max() < 1e-6
