"""The gallery's registry, its claims and its drawing: what holds for every station."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import save_file

from mlegfn import config, gallery
from mlegfn.errors import UserError
from mlegfn.gallery import fitting
from mlegfn.gallery.settings import Gallery
from mlegfn.gallery.station import Inputs, Quantity
from mlegfn.report import style, verdict
from mlegfn.report.gallery import claims, drawing, measured

CLAIMS = REPOSITORY / "claims-gallery.yaml"


def test_every_station_has_settings_a_figure_and_a_place(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    names = gallery.names()
    assert set(names) == set(Gallery.model_fields)
    assert set(config.load().scales["gallery"].gallery.names) == set(names)
    assert list(gallery.titles()) == sorted(names, key=lambda name: gallery.load(name).order)
    for name in names:
        station = gallery.load(name)
        assert (station.title, station.notes) == gallery.titles()[name]
        assert len(station.description()["about"]) > 100, "a paragraph for the report page"
        _, reads, images = gallery.sources(name)
        assert (tuple(reads), images) == (tuple(station.reads), station.images), (
            "what the text says is what runs"
        )
        assert (REPOSITORY / f"src/mlegfn/report/gallery/{name}.py").is_file()
    orders = [gallery.load(name).order for name in names]
    assert len(set(orders)) == len(orders)


def test_an_unknown_station_is_named():
    with pytest.raises(ValueError, match="unknown station 'spirals'; there are"):
        gallery.load("spirals")


def test_every_claim_is_about_a_quantity_that_its_station_measures(monkeypatch):
    """Of the committed metrics; a claim about a misspelt quantity would be silently untested."""
    monkeypatch.chdir(REPOSITORY)
    there = {path.stem for path in (REPOSITORY / "results/gallery/metrics/gallery").glob("*.json")}
    assert there <= set(gallery.names()) and len(there) > 5, "stations of this version"
    for claim in claims.load():
        assert claim.id.startswith(f"{claim.test.station}-")
        if claim.test.station in there:
            found = measured.of_station("gallery", claim.test.station)
            assert claim.test.quantity in found["quantities"], claim.id


def metrics(values, error=None):
    quantity = Quantity("what", values, "nats", error).as_json()
    return SimpleNamespace(name="s", stations={"forward": {"quantities": {"q": quantity}}})


def claim(limit, station="forward", quantity="q"):
    test = claims.GalleryBelow(kind="gallery_below", station=station, quantity=quantity, limit=limit)
    return claims.Claim("forward-q", "a claim", "(ours)", "notes", None, test)


@pytest.mark.parametrize(
    "values, error, limit, expected",
    [
        ([0.9, 1.0, 1.1], None, 2.0, "reproduced"),
        ([0.9, 1.0, 1.1], None, 1.01, "not reproduced"),  # the mean is below, the interval is not
        ([1.0], 0.1, 1.3, "reproduced"),
        ([1.0], 0.1, 1.1, "not reproduced"),
        ([1.0], None, 1.1, "reproduced"),
        ([1.0], None, 1.0, "not reproduced"),
    ],
)
def test_a_verdict_needs_the_whole_interval(values, error, limit, expected):
    row = verdict.decide(metrics(values, error), [claim(limit)])["claims"][0]
    assert row["verdict"] == expected
    assert row["estimate"] == pytest.approx(np.mean(values) - limit)


def test_what_was_not_measured_is_not_tested():
    for other in (claim(1, station="spiral"), claim(1, quantity="r")):
        row = verdict.decide(metrics([0.0]), [other])["claims"][0]
        assert row["verdict"] == "not tested at this scale" and "not at this scale" in row["detail"]


def test_claims_with_mistakes_are_told_all_at_once(tmp_path):
    text = (
        CLAIMS.read_text().replace("station: forward", "station: backward").replace("limit: 4", "limit: .nan")
    )
    path = tmp_path / "claims-gallery.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        claims.load(path)
    lines = str(error.value).splitlines()
    assert sum("no station 'backward'" in line for line in lines) >= 2
    assert any("forward-closed-form: test.limit" in line for line in lines)
    assert all("claims-gallery.yaml: " in line for line in lines)
    path.write_text("[]")
    with pytest.raises(UserError, match="expected claims, each under its name"):
        claims.load(path)


def test_missing_and_broken_files_name_the_stage(tmp_path):
    with pytest.raises(UserError, match="the stage station@s-forward makes it"):
        measured.of_station("s", "forward", tmp_path)
    (tmp_path / "s/metrics/gallery").mkdir(parents=True)
    (tmp_path / "s/metrics/gallery/forward.json").write_text(json.dumps({"title": "x"}))
    with pytest.raises(UserError, match="has no 'order'; delete it"):
        measured.of_station("s", "forward", tmp_path)
    (tmp_path / "s/gallery").mkdir()
    (tmp_path / "s/gallery/forward.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        measured.tensors("s", "forward", tmp_path)


def test_a_table_of_quantities_shows_their_errors():
    found = SimpleNamespace(
        quantities={
            "a": Quantity("over seeds", [1.0, 2.0, 3.0], "nats").as_json(),
            "b": Quantity("of samples", [4.0], "", 0.25).as_json(),
            "c": Quantity("alone | with a bar", [5.0]).as_json(),
        }
    )
    table = drawing.quantities(found)
    assert list(table["value"]) == [2.0, 4.0, 5.0]
    assert table["error"][0] == pytest.approx(1 / 3**0.5) and table["error"][1] == 0.25
    text = drawing.markdown(table)
    assert "alone \\| with a bar" in text and len({line.count(" | ") for line in text.splitlines()[2:]}) == 1


def test_training_is_a_function_of_its_seed_and_gives_the_averaged_weights():
    def run(decay):
        network = fitting.initialised(lambda: torch.nn.Linear(2, 1), 0, "test")
        x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
        optimizer = SimpleNamespace(lr=0.05, warmup=0, clip=10.0, ema_decay=decay)
        log = []
        averaged = fitting.fit(
            network, lambda _: (network(x)[:, 0] - x.sum(1)).square().mean(), 30, optimizer, "t", log
        )
        return network, averaged, log

    first, averaged, log = run(0.9)
    again, _, _ = run(0.9)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert [entry["step"] for entry in log] == list(range(1, 31)) and log[-1]["loss"] < log[0]["loss"]
    assert not any(p.requires_grad for p in averaged.parameters())
    assert not torch.equal(averaged.weight, first.weight), "the last weights instead of their average"


def test_weights_come_back_and_those_of_another_network_are_refused(tmp_path):
    network = torch.nn.Linear(2, 3)
    save_file(fitting.weights(network, "model"), tmp_path / "x.safetensors")
    (tmp_path / "results/s/gallery").mkdir(parents=True)
    (tmp_path / "x.safetensors").rename(tmp_path / "results/s/gallery/algorithms.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        found = Inputs("s", None).tensors("algorithms")
        with pytest.raises(UserError, match="not found"):
            Inputs("s", None).tensors("forward")
    same = fitting.with_weights(torch.nn.Linear(2, 3), found, "model")
    assert torch.equal(same.weight, network.weight)
    with pytest.raises(ValueError, match="model: the weights of another network"):
        fitting.with_weights(torch.nn.Linear(2, 4), found, "model")


@pytest.mark.parametrize("draw, equal", [(drawing.settled, True), (lambda plot, found: plot(found), False)])
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
