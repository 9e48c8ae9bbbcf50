"""The gallery's stages at the scale smoke: a station, one that reads it, and the report of all."""

import json

import pytest
from helpers.image_stages import prepare, run_stage
from helpers.repository import REPOSITORY

from mlegfn.artifacts import read_json
from mlegfn.data import digits, save_images
from mlegfn.errors import UserError
from reproduction.gallery.settings import Gallery
from reproduction.params import ReadingStationRun, StationRun, read
from reproduction.settings.validation import validate

RAW = json.dumps(read(REPOSITORY / "params.yaml")["gallery"]["smoke"])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with images of the scale smoke, in which stages can run."""
    folder = prepare(tmp_path_factory.mktemp("gallery"))
    save_images(digits.load().limited(64, 16), folder / "data/smoke")
    return folder


def run(module, station=None, images="smoke"):
    reads = {"reads": "algorithms"} if station == "shared" else {}
    entry = (ReadingStationRun if reads else StationRun)(
        scale="smoke", images=images, station=station or "none", **reads
    )
    run_stage(module, validate(Gallery, json.loads(RAW), "params.yaml"), station, entries={station: entry})


def test_stations_and_their_report(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    with pytest.raises(UserError, match=r"stations/algorithms.safetensors: not found"):
        run("gallery.run_reading_station", "shared")
    for module, station in (
        ("gallery.run_station", "algorithms"),
        ("gallery.run_reading_station", "shared"),
        ("gallery.run_station", "spiral"),
        ("gallery.report", None),
    ):
        run(module, station)
    folder = checkout / "results/smoke/gallery"
    for station in ("algorithms", "shared", "spiral"):
        contents = read_json(folder / "metrics" / f"{station}.json")
        assert contents["scale"] == "smoke" and contents["settings"] == json.loads(RAW)[station]
        for ending in ("pdf", "svg", "png", "md"):
            assert (folder / "figures" / f"{station}.{ending}").stat().st_size > 100
        assert (folder / "tables" / f"{station}.csv").is_file()
    assert (folder / "figures/spiral.webp").is_file()
    assert read_json(folder / "report/verdict.json")["scale"] == "smoke"


def test_images_are_those_of_the_scale_that_the_entry_names(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    with pytest.raises(UserError, match="data/digits: not found"):
        run("gallery.run_station", "algorithms", images="digits")
