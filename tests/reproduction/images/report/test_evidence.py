"""Verdicts on the claims about images follow the metrics."""

import json

import pytest
from helpers import synthetic_images as synthetic
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.images.report.evidence import KINDS, TESTS
from reproduction.verdicts import claims, verdict

CLAIMS = REPOSITORY / "claims" / "images.yaml"
SMALL = {"checkpoints": (20, 40, 60), "stop": 80, "evaluate_at": (4, 8)}
MINE = [claim.id for claim in claims.load(CLAIMS, KINDS)]
REPRODUCED, NOT, UNTESTED = "reproduced", "not reproduced", "not tested at this scale"


def decided(tmp_path, name="digits", change=None, **effects):
    """{claim id: its verdict's row} of synthetic metrics."""
    settings = synthetic.settings(**{**SMALL, **(change or {})})
    metrics = synthetic.write(settings, tmp_path, name=name, images=30, **effects)
    report = verdict.decide(metrics, claims.load(CLAIMS, KINDS), TESTS)
    json.dumps(report, allow_nan=False)
    assert report["scale"] == name
    return {row["id"]: row for row in report["claims"]}


def shifts(vlb=-0.004, tbc=-0.01):
    return {"simple": 0.0, "vlb": vlb, "tbc": tbc}


def test_verdicts_flip_with_the_metrics(tmp_path):
    good = decided(tmp_path / "good", fall=0.2, cost=1)
    assert {key: row["verdict"] for key, row in good.items()} == {
        **dict.fromkeys(MINE, REPRODUCED),
        "figure1-cifar10": UNTESTED,
    }
    bad = decided(tmp_path / "bad", fall=-0.2, cost=1, shifts=shifts(tbc=0.01))
    assert {key: row["verdict"] for key, row in bad.items()} == {
        **dict.fromkeys(MINE, NOT),
        "figure1-cifar10": UNTESTED,
    }


def test_the_estimate_is_the_effect_and_its_interval_holds_it(tmp_path):
    row = decided(tmp_path, shifts=shifts(tbc=-0.01))["simple-at-equal-steps"]
    assert row["interval"][0] < -0.01 < row["interval"][1] < 0
    assert row["estimate"] == pytest.approx(-0.01, abs=0.002)
    assert (row["seeds"], row["unit"], len(row["parts"])) == (3, "bits/dim", 3)
    assert row["detail"].startswith("lower at 3, indistinguishable at 0, higher at 0 of 3 checkpoints")


def test_one_bad_checkpoint_decides_against_every(tmp_path):
    rows = decided(tmp_path, shifts=shifts(tbc=lambda c: 0.01 if c == 40 else -0.05))
    row = rows["simple-at-equal-steps"]
    assert row["verdict"] == NOT
    assert row["where"] == "checkpoint 40 + 8 steps" and row["estimate"] > 0
    assert "lower at 2, indistinguishable at 0, higher at 1 of 3 checkpoints" in row["detail"]
    assert rows["simple-at-equal-steps-mean"]["verdict"] == REPRODUCED


def test_no_effect_is_not_reproduced(tmp_path):
    row = decided(tmp_path, shifts=shifts(tbc=0.0))["simple-at-equal-steps"]
    assert row["verdict"] == NOT and "indistinguishable" in row["detail"]


def test_a_gain_that_is_only_reweighting_is_told(tmp_path):
    rows = decided(tmp_path, shifts=shifts(vlb=-0.02, tbc=-0.01))
    assert rows["simple-at-equal-steps"]["verdict"] == REPRODUCED
    assert rows["vlb-at-equal-steps"]["verdict"] == NOT


def test_cost_decides_at_equal_evaluations(tmp_path):
    cheap = decided(tmp_path / "cheap", cost=1, fall=0.2)
    assert cheap["baseline-at-equal-evaluations"]["verdict"] == REPRODUCED
    dear = decided(tmp_path / "dear", cost=3, fall=0.1)
    assert dear["figure1-from-every-checkpoint"]["verdict"] == REPRODUCED
    assert dear["baseline-at-equal-evaluations"]["verdict"] == NOT
    assert dear["simple-at-equal-evaluations"]["verdict"] == UNTESTED


def test_what_the_scale_lacks_is_not_tested(tmp_path):
    rows = decided(tmp_path, arms=["tbc"], fall=0.2)
    assert rows["simple-at-equal-steps"]["verdict"] == UNTESTED
    assert "arm simple" in rows["simple-at-equal-steps"]["detail"]
    assert rows["simple-at-equal-steps"]["estimate"] is None
    assert rows["figure1-from-every-checkpoint"]["verdict"] == REPRODUCED


def test_the_cifar10_claim_needs_its_scale(tmp_path):
    at_cifar10 = decided(tmp_path, name="cifar10", fall=0.2)["figure1-cifar10"]
    assert at_cifar10["verdict"] == REPRODUCED
    here = decided(tmp_path, fall=0.2)["figure1-cifar10"]
    assert here["verdict"] == UNTESTED and here["estimate"] is here["interval"] is None


def test_one_seed_is_flagged(tmp_path):
    rows = decided(tmp_path, change={"seeds": (5,)}, fall=0.2)
    row = rows["simple-at-equal-steps"]
    assert row["seeds"] == 1 and "one seed: the interval covers images only" in row["detail"]
    text = verdict.markdown({"scale": "digits", "claims": list(rows.values())})
    assert "1 (interval not over seeds)" in text


def test_the_table_says_what_the_json_says(tmp_path):
    rows = decided(tmp_path)
    text = verdict.markdown({"scale": "digits", "claims": list(rows.values())})
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    for line, row in zip(lines[2:], rows.values()):
        assert row["claim"] in line and row["paper"] in line and f"**{row['verdict']}**" in line


def test_the_next_saved_step_and_every_moment(tmp_path):
    path = tmp_path / "claims.yaml"
    text = {"claim": "c", "paper": "p", "source": "s", "scales": None}
    below = {"kind": "finetune_below", "arm": "tbc", "checkpoints": "all", "equal": "steps"}
    raw = {
        "next": {**text, "test": {**below, "reference": "baseline_next", "at": "last"}},
        "moments": {**text, "test": {**below, "reference": "simple", "at": "every"}},
    }
    path.write_text(json.dumps(raw))
    metrics = synthetic.write(synthetic.settings(**SMALL), tmp_path, images=30)
    report = verdict.decide(metrics, claims.load(path, KINDS), TESTS)
    rows = {row["id"]: row for row in report["claims"]}
    assert rows["next"]["verdict"] == NOT  # 20 more steps of the baseline are worth more
    assert len(rows["moments"]["parts"]) == 3 * 2 and "measured points" in rows["moments"]["detail"]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"reference": "tbc"}, "test.reference: expected one of"),
        ({"arm": "vlb", "reference": "vlb"}, "test.reference: must be another one than `arm`"),
        ({"reference": "baseline_next", "equal": "evaluations"}, "test.equal: must be steps"),
        ({"checkpoints": "mean", "at": "every"}, "test.at: must be last"),
        ({"verdict": "reproduced"}, "test.verdict: unknown setting"),
    ],
)
def test_a_claim_that_contradicts_itself_is_one_line(tmp_path, change, said):
    test = {"kind": "finetune_below", "arm": "tbc", "reference": "simple", "checkpoints": "all", "at": "last"}
    claim = {"claim": "c", "paper": "p", "source": "s", "scales": None}
    path = tmp_path / "claims.yaml"
    path.write_text(json.dumps({"x": {**claim, "test": {**test, "equal": "steps", **change}}}))
    with pytest.raises(UserError) as error:
        claims.load(path, KINDS)
    assert f"claims.yaml: x: {said}" in str(error.value) and "\n" not in str(error.value)
