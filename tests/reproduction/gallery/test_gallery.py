"""The gallery's registry: what holds for every station, and that dvc.yaml and params.yaml run them all."""

from pathlib import Path

import pytest
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction import gallery
from reproduction.gallery.settings import Gallery
from reproduction.params import read
from reproduction.settings.validation import validate
from reproduction.settings.yaml_file import read_yaml

PARAMS = read(REPOSITORY / "params.yaml")


def test_every_station_has_settings_a_figure_and_a_place():
    names = gallery.names()
    assert set(names) == set(Gallery.model_fields)
    assert set(validate(Gallery, PARAMS["gallery"]["gallery"], "params.yaml").names) == set(names)
    assert list(gallery.titles()) == sorted(names, key=lambda name: gallery.load(name).order)
    drawn = {path.stem for path in Path(gallery.__file__).parent.glob("report/stations/*.py")}
    assert drawn - {"__init__"} == set(names)
    for name in names:
        station = gallery.load(name)
        assert (station.title, station.notes) == gallery.titles()[name]
        assert gallery.reads(name) == station.reads, "what the text says is what runs"
        assert gallery.trained_once(name) is station.trained_once
        assert len(station.description()["about"]) > 100, "a paragraph for the report page"
    orders = [gallery.load(name).order for name in names]
    assert len(set(orders)) == len(orders)


def test_dvc_yaml_runs_every_station_after_those_that_it_reads():
    stages = read_yaml(REPOSITORY / "dvc.yaml")["stages"]
    modules = ("run_station", "run_reading_station", "run_prior")
    for group, module in zip(gallery.STAGES, modules, strict=True):
        assert stages[group]["do"]["cmd"].split()[:3] == ["mlegfn", "stage", f"gallery.{module}"]
    runs = {"station": "station_runs", "reading_station": "reading_station_runs", "prior": "prior_runs"}
    for group, key in runs.items():
        for entry in PARAMS[key].values():
            name, scale = entry["station"], entry["scale"]
            assert gallery.stage_name(scale, name) == f"{group}@{scale}-{name}"
            if group == "reading_station":
                assert (entry["reads"],) == gallery.reads(name)
    deps = " ".join(stages["prior"]["do"]["deps"])
    assert all(f"/stations/{name}.safetensors" in deps for name in gallery.reads("prior"))


def test_stations_with_one_training_are_those_that_train_no_network_a_seed():
    """One seed beside the sampling seeds, or one alone, or another station's network: one training, whatever the seeds."""
    block = PARAMS["gallery"]["gallery"]
    for name in gallery.names():
        several, own = "seeds" in block[name], "seed" in block[name]
        if name == "forward":  # trains nothing
            assert not gallery.trained_once(name)
        else:
            assert gallery.trained_once(name) == bool(own or gallery.reads(name) or not several), name


def test_an_unknown_station_is_named():
    with pytest.raises(ValueError, match="unknown station 'spirals'; there are"):
        gallery.load("spirals")


def test_a_stations_noise_is_checked_like_any_other():
    block = read(REPOSITORY / "params.yaml")["gallery"]["gallery"]
    changed = ("spiral", "algorithms", "forward", "schedules")
    for station in (*(block[name] for name in changed), block["annealing"]["points"]):
        station["beta_end"] = station["beta_start"] / 2
    with pytest.raises(UserError) as error:
        validate(Gallery, block, "params.yaml")
    lines = str(error.value).splitlines()
    assert len(lines) == 5 and all("beta_end: must not be below beta_start" in line for line in lines)
