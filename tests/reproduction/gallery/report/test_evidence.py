"""Verdicts on the gallery: claims/gallery.yaml, and how each is decided."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction import gallery
from reproduction.gallery.report import evidence, measured
from reproduction.gallery.station import Quantity
from reproduction.stage import recorded_outputs
from reproduction.verdicts import claims, verdict

CLAIMS = REPOSITORY / "claims/gallery.yaml"


def test_every_claim_is_about_a_quantity_that_its_station_measures(monkeypatch):
    """Of the committed metrics that dvc.lock records; a claim about a misspelt quantity would be silently untested."""
    monkeypatch.chdir(REPOSITORY)
    made = {
        stage.partition("gallery-")[2]
        for stage, _ in recorded_outputs().values()
        if "station@gallery-" in stage
    }
    stations = made & set(gallery.names())
    assert stations, "what a former version measured has no entry in dvc.lock"
    for claim in claims.load(CLAIMS, evidence.KINDS):
        assert claim.id.startswith(f"{claim.test.station}-")
        if claim.test.station in stations:
            quantities = measured.of_station("gallery", claim.test.station)["quantities"]
            wanted = claim.test.quantities if claim.test.kind == "gallery_alike" else [claim.test.quantity]
            assert set(wanted) <= set(quantities), claim.id
            units = {quantities[name]["unit"] for name in wanted}
            assert len(units) == 1, f"{claim.id}: one margin for several units"


def metrics(values, error=None, station="forward", count=None, **others):
    """Of one station: the quantity ``q``, and ``others`` {name: (values, standard error)}."""
    known = {"q": (values, error), **others}
    quantities = {
        name: Quantity("what", *(value, "nats", error), count).as_json()
        for name, (value, error) in known.items()
    }
    return SimpleNamespace(name="s", stations={station: {"quantities": quantities}})


def claim(limit, station="forward", quantity="q"):
    test = evidence.GalleryBelow(kind="gallery_below", station=station, quantity=quantity, limit=limit)
    return claims.Claim("forward-q", "a claim", "(ours)", "notes", None, test)


def alike(margin, *quantities, station="forward"):
    test = evidence.GalleryAlike(
        kind="gallery_alike", station=station, quantities=list(quantities or "q"), margin=margin
    )
    return claims.Claim("forward-q", "a claim", "(ours)", "notes", None, test)


def decided(measured, claim):
    return verdict.decide(measured, [claim], evidence.TESTS)["claims"][0]


@pytest.mark.parametrize(
    "values, error, limit, expected",
    [
        ([0.9, 1.0, 1.1], None, 2.0, "reproduced"),
        ([0.9, 1.0, 1.1], None, 1.01, "undecided"),  # the mean is below, the interval is not
        ([0.9, 1.0, 1.1], None, 0.0, "refuted"),
        ([1.0], 0.1, 1.3, "reproduced"),
        ([1.0], 0.1, 1.1, "undecided"),
        ([1.0], 0.1, 0.9, "undecided"),
        ([1.0], 0.1, 0.7, "refuted"),
    ],
)
def test_a_verdict_needs_the_whole_interval(values, error, limit, expected):
    row = decided(metrics(values, error), claim(limit))
    assert row["verdict"] == expected
    assert row["estimate"] == pytest.approx(np.mean(values) - limit)


@pytest.mark.parametrize("test", [claim(1.1), alike(2.0)])
def test_one_value_without_an_error_decides_nothing(test):
    row = decided(metrics([1.0]), test)
    assert row["verdict"] == "not tested at this scale" and "an error of q of forward" in row["detail"]


def test_the_error_of_four_values_is_not_normal():
    """1.0 ± 0.1, limit 1.25: below by 2.5 standard errors, more than the normal 1.96 and less than Student's 3.18."""
    assert decided(metrics([1.0], 0.1), claim(1.25))["verdict"] == "reproduced"
    assert decided(metrics([1.0], 0.1, count=4), claim(1.25))["verdict"] == "undecided"


@pytest.mark.parametrize(
    "value, error, margin, expected",
    [
        (0.5, 0.1, 1.0, "reproduced"),
        (-0.5, 0.1, 1.0, "reproduced"),
        (0.82, 0.1, 1.0, "reproduced"),  # by 1.8 standard errors: the 90 % interval decides
        (0.85, 0.1, 1.0, "undecided"),
        (0.0, 1.0, 1.0, "undecided"),  # nothing is there to be seen, and the error would hide it
        (1.18, 0.1, 1.0, "undecided"),
        (1.3, 0.1, 1.0, "refuted"),
        (-1.3, 0.1, 1.0, "refuted"),
    ],
)
def test_alike_needs_a_margin_on_both_sides(value, error, margin, expected):
    assert decided(metrics([value], error), alike(margin))["verdict"] == expected


def test_every_quantity_must_be_alike():
    others = {"r": ([0.0], 0.1), "s": ([3.0], 0.1), "t": ([0.0], 9.0)}
    for names, expected in (
        ("qr", "reproduced"),
        ("qrt", "undecided"),
        ("qrst", "refuted"),
        ("qu", "not tested at this scale"),
    ):
        row = decided(metrics([0.1], 0.1, **others), alike(1.0, *names))
        assert row["verdict"] == expected
    row = decided(metrics([0.1], 0.1, **others), alike(1.0, *"qrst"))
    assert row["where"] == "forward: s" and len(row["parts"]) == 4


def test_what_an_interval_does_not_cover_is_said():
    """Seeds of samplers draw samples of one network; those of schedules each train one."""
    several, one = [0.9, 1.0, 1.1], [1.0]
    for station, sampling in (("samplers", True), ("schedules", False)):
        detail = decided(metrics(several, station=station), claim(2.0, station=station))["detail"]
        assert ("seeds of sampling; one training, which it does not cover" in detail) == sampling
        detail = decided(metrics(one, 0.1, station=station), claim(2.0, station=station))["detail"]
        assert "the estimate's own error" in detail
        assert ("one training, which it does not cover" in detail) == sampling


def test_what_was_not_measured_is_not_tested():
    for other in (claim(1, station="spiral"), claim(1, quantity="r")):
        row = decided(metrics([0.0], 0.1), other)
        assert row["verdict"] == "not tested at this scale" and "not at this scale" in row["detail"]


def test_claims_with_mistakes_are_listed_all_at_once(tmp_path):
    text = (
        CLAIMS.read_text()
        .replace("station: forward", "station: backward")
        .replace("margin: 0.1", "margin: .nan")
    )
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        claims.load(path, evidence.KINDS)
    lines = str(error.value).splitlines()
    assert sum("no station 'backward'" in line for line in lines) >= 2
    assert any("forward-closed-form: test.margin" in line for line in lines)
    assert all("claims.yaml: " in line for line in lines)
    path.write_text("[]")
    with pytest.raises(UserError, match="expected claims, each under its name"):
        claims.load(path, evidence.KINDS)
