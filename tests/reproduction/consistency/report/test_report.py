"""The report of signed λ on metrics whose slope is known: verdicts, fits, tables, equal bytes."""

import json
from pathlib import Path

import pytest
from helpers import synthetic_consistency as synthetic
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.consistency.report import noising_evidence, policy_evidence, slope, tables
from reproduction.consistency.report.evidence import KINDS, TESTS
from reproduction.consistency.report.metrics import Metrics
from reproduction.verdicts import claims, verdict

CLAIMS = [
    claim
    for claim in claims.load(REPOSITORY / "claims/consistency.yaml", KINDS)
    if claim.test.kind not in policy_evidence.KINDS | noising_evidence.KINDS
]


def verdicts(metrics):
    return {row["id"]: row["verdict"] for row in verdict.decide(metrics, CLAIMS, TESTS)["claims"]}


def test_what_was_predicted_is_reproduced(tmp_path):
    metrics = synthetic.write(synthetic.settings(), tmp_path)
    assert set(verdicts(metrics).values()) == {"reproduced"}


@pytest.mark.parametrize(
    "changes, refuted",
    [
        (
            {"slope": 0.5},
            {"slope-is-minus-half", "consistency-raises-nll", "negative-lowers-nll", "iwae-lowers-nll"},
        ),
        ({"slope": -0.2}, {"slope-is-minus-half"}),
        ({"even": 0.6}, {"odd-in-lambda"}),
        ({"bound": 0.5}, {"bound-cannot-see-it"}),
        ({"bound": -0.5}, {"bound-cannot-see-it"}),
    ],
)
def test_what_is_otherwise_is_refuted(tmp_path, changes, refuted):
    found = verdicts(synthetic.write(synthetic.settings(), tmp_path, **changes))
    assert {name for name, word in found.items() if word == "refuted"} == refuted
    assert {word for name, word in found.items() if name not in refuted} == {"reproduced"}


def test_what_is_drowned_in_noise_is_undecided(tmp_path):
    found = verdicts(synthetic.write(synthetic.settings(), tmp_path, noise=0.6))
    assert {found[name] for name in ("slope-is-minus-half", "odd-in-lambda")} == {"undecided"}


def test_of_one_seed_signs_are_decided_by_points_and_ratios_not_at_all(tmp_path):
    metrics = synthetic.write(synthetic.settings(seeds=[0]), tmp_path)
    found = verdicts(metrics)
    assert found["iwae-lowers-nll"] == "reproduced" and found["slope-is-minus-half"] == verdict.UNTESTED
    assert slope.draw(metrics)["png"] and "over seeds. Below" not in slope.caption(metrics)


def test_an_arm_that_a_scale_lacks_is_not_tested_there(tmp_path):
    given = synthetic.settings().model_copy(update={"weights": [-0.2, 0.0, 0.2], "groups": [2]})
    found = verdicts(synthetic.write(given, tmp_path))
    assert set(found.values()) == {verdict.UNTESTED}


def test_fits_and_tables_show_the_slope(tmp_path):
    metrics = synthetic.write(synthetic.settings(), tmp_path, slope=-0.4, noise=1e-6)
    assert metrics.fit(list(metrics.arms)).estimate == pytest.approx(-0.4, abs=1e-4)
    assert slope.small(metrics) == ["bound-0.02", "bound+0.02"]
    frame = tables.arms(metrics)
    assert len(frame) == 2 * len(metrics.arms)
    assert frame["slope"].dropna().tolist() == pytest.approx([-0.4] * 14, abs=1e-4)
    (moons, _) = tables.optima(metrics).to_dict("records")
    assert moons["pull_pretrained"] == pytest.approx(0.75) and moons["pull_optimum"] == pytest.approx(0.025)
    assert [moons[key] for key in ("first", "before", "last")] == pytest.approx([2.602, 2.602, 2.601])


def test_equal_metrics_make_equal_bytes(tmp_path):
    made = []
    for name in ("one", "two"):
        metrics = synthetic.write(synthetic.settings(), tmp_path / name)
        made.append((slope.draw(metrics), slope.caption(metrics), tables.make(metrics)))
    assert made[0] == made[1]


@pytest.mark.parametrize(
    "breaking, said",
    [
        (lambda value: value.pop("runs"), "has no 'runs'"),
        (lambda value: value["runs"].pop(), "no iwae8 with seed 3"),
        (
            lambda value: value["runs"][0]["differences"]["nll"].update(value=None),
            "something else than numbers",
        ),
        (lambda value: value["optima"].pop(), "no optimum with seed 3"),
    ],
)
def test_metrics_that_do_not_fit_name_the_stage_that_makes_them(tmp_path, breaking, said):
    given = synthetic.settings()
    synthetic.write(given, tmp_path)
    path = Path(tmp_path, "digits/consistency/metrics/signed/moons.json")
    value = json.loads(path.read_text())
    breaking(value)
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=said) as error:
        Metrics("digits", given, ["moons"], tmp_path)
    assert "dvc repro signed@digits-moons" in str(error.value)
