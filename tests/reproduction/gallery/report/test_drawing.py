"""What a report reads of stations, its tables, and figures that are equal bytes."""

import json
from types import SimpleNamespace

import pytest

from mlegfn.errors import UserError
from reproduction.drawing import style
from reproduction.gallery.report import drawing, measured
from reproduction.gallery.station import Quantity


def test_missing_and_broken_files_name_the_stage(tmp_path):
    with pytest.raises(UserError, match="the stage station@s-forward makes it"):
        measured.of_station("s", "forward", tmp_path)
    (tmp_path / "s/gallery/metrics").mkdir(parents=True)
    (tmp_path / "s/gallery/metrics/forward.json").write_text(json.dumps({"title": "x"}))
    with pytest.raises(UserError, match="has no 'order'; delete it"):
        measured.of_station("s", "forward", tmp_path)
    (tmp_path / "s/gallery/stations").mkdir()
    (tmp_path / "s/gallery/stations/forward.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        measured.tensors("s", "forward", tmp_path)


def test_a_table_of_quantities_shows_their_errors():
    result = SimpleNamespace(
        quantities={
            "a": Quantity("over seeds", [1.0, 2.0, 3.0], "nats").as_json(),
            "b": Quantity("of samples", [4.0], "", 0.25).as_json(),
            "c": Quantity("alone | with a bar", [5.0]).as_json(),
        }
    )
    table = drawing.quantities(result)
    assert list(table["value"]) == [2.0, 4.0, 5.0]
    assert table["error"][0] == pytest.approx(1 / 3**0.5) and table["error"][1] == 0.25
    text = drawing.markdown(table)
    assert "alone \\| with a bar" in text and len({line.count(" | ") for line in text.splitlines()[2:]}) == 1


@pytest.mark.parametrize("draw, equal", [(drawing.settled, True), (lambda plot, result: plot(result), False)])
def test_a_figure_does_not_depend_on_the_last_digits_of_its_layout(draw, equal):
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.transforms import Bbox

    class Noisy(ConstrainedLayoutEngine):
        noise = 0.0

        def execute(self, figure):
            super().execute(figure)
            for axes in figure.get_axes():
                axes._set_position(Bbox(axes.get_position(original=True).get_points() + self.noise))
            for part in figure.subfigs:
                part.bbox_relative.set_points(part.bbox_relative.get_points() + self.noise)

    def plot(noise):
        figure = Figure(figsize=(3, 3), layout=Noisy())
        figure.get_layout_engine().noise = noise
        for part in figure.subfigures(2, 1):
            for axes in part.subplots(1, 2):
                axes.plot([0, 1], [0, 1])
        return figure

    assert (style.draw(draw, plot, 0.0) == style.draw(draw, plot, 1e-9)) == equal
