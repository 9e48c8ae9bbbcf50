"""Verdicts on the gallery: claims/gallery.yaml, and how each is decided."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction import gallery
from reproduction.gallery.report import evidence, measured
from reproduction.gallery.station import Quantity
from reproduction.verdicts import claims, verdict

CLAIMS = REPOSITORY / "claims/gallery.yaml"


def test_every_claim_is_about_a_quantity_that_its_station_measures(monkeypatch):
    """Of the committed metrics; a claim about a misspelt quantity would be silently untested."""
    monkeypatch.chdir(REPOSITORY)
    stations = {path.stem for path in (REPOSITORY / "results/gallery/gallery/metrics").glob("*.json")}
    assert stations <= set(gallery.names()) and len(stations) > 5, "stations of this version"
    for claim in claims.load(CLAIMS, evidence.KINDS):
        assert claim.id.startswith(f"{claim.test.station}-")
        if claim.test.station in stations:
            contents = measured.of_station("gallery", claim.test.station)
            assert claim.test.quantity in contents["quantities"], claim.id


def metrics(values, error=None):
    quantity = Quantity("what", values, "nats", error).as_json()
    return SimpleNamespace(name="s", stations={"forward": {"quantities": {"q": quantity}}})


def claim(limit, station="forward", quantity="q"):
    test = evidence.GalleryBelow(kind="gallery_below", station=station, quantity=quantity, limit=limit)
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
    row = verdict.decide(metrics(values, error), [claim(limit)], evidence.TESTS)["claims"][0]
    assert row["verdict"] == expected
    assert row["estimate"] == pytest.approx(np.mean(values) - limit)


def test_what_was_not_measured_is_not_tested():
    for other in (claim(1, station="spiral"), claim(1, quantity="r")):
        row = verdict.decide(metrics([0.0]), [other], evidence.TESTS)["claims"][0]
        assert row["verdict"] == "not tested at this scale" and "not at this scale" in row["detail"]


def test_claims_with_mistakes_are_listed_all_at_once(tmp_path):
    text = (
        CLAIMS.read_text().replace("station: forward", "station: backward").replace("limit: 4", "limit: .nan")
    )
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        claims.load(path, evidence.KINDS)
    lines = str(error.value).splitlines()
    assert sum("no station 'backward'" in line for line in lines) >= 2
    assert any("forward-closed-form: test.limit" in line for line in lines)
    assert all("claims.yaml: " in line for line in lines)
    path.write_text("[]")
    with pytest.raises(UserError, match="expected claims, each under its name"):
        claims.load(path, evidence.KINDS)
