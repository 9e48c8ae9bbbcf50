"""What all stations on images have to be: runnable, equal twice, drawn, and refused with a sentence."""

import importlib
import math
from types import SimpleNamespace

import pytest
import torch
from helpers.gallery_images import TINY, Inputs

from reproduction import gallery
from reproduction.drawing import style
from reproduction.gallery.report import drawing


@pytest.fixture(scope="module")
def ran():
    """{station: (Found, Found)}: each run twice."""
    return {name: [gallery.load(name).run(TINY[name], Inputs()) for _ in range(2)] for name in TINY}


@pytest.mark.parametrize("name", TINY)
def test_two_runs_give_equal_numbers_and_tensors(name, ran):
    first, second = ran[name]
    assert {k: q.as_json() for k, q in first.quantities.items()} == {
        k: q.as_json() for k, q in second.quantities.items()
    }
    assert first.details == second.details
    assert all(torch.equal(first.tensors[k], second.tensors[k]) for k in first.tensors | second.tensors)


@pytest.mark.parametrize("name", TINY)
def test_every_number_is_finite_and_every_figure_can_be_drawn(name, ran):
    result, station = ran[name][0], gallery.load(name)
    assert all(math.isfinite(value) for q in result.quantities.values() for value in q.as_json()["values"])
    module = importlib.import_module(f"reproduction.gallery.report.stations.{name}")
    as_report = SimpleNamespace(
        **station.description(),
        settings=TINY[name].model_dump(mode="json"),
        quantities={k: q.as_json() for k, q in result.quantities.items()},
        details=result.details,
        tensors={k: v.numpy() for k, v in result.tensors.items()},
    )
    assert style.draw(module.plot, as_report)["png"].startswith(b"\x89PNG")
    assert module.caption(as_report).endswith(".")
    assert len(getattr(module, "table", drawing.quantities)(as_report)) > 1
