"""A model's units: there and back, and what a density changes by."""

import torch

from mlegfn.data.units import Units


def test_units_standardise_and_return():
    points = (
        torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([2.0, 0.1])
        + 5
    )
    units = Units.of(points)
    inside = units.to_model(points)
    torch.testing.assert_close(inside.mean(0), torch.zeros(2).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(inside.std(0), torch.ones(2).double())
    torch.testing.assert_close(units.to_data(inside), points)


def test_a_density_keeps_its_mass():
    units = Units(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5]))
    square = units.to_data(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    area = (square[1] - square[0]).prod().log().item()
    assert abs(units.log_jacobian + area) < 1e-6
