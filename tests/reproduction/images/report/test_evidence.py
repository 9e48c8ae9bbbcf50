"""Verdicts on the claims about images follow the metrics."""

import json

import pytest
from helpers import synthetic_images as synthetic
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.images.report.evidence import KINDS, TESTS
from reproduction.images.report.metrics import Metrics
from reproduction.verdicts import claims, verdict

CLAIMS = REPOSITORY / "claims" / "images.yaml"
SMALL = {"checkpoints": (20, 40, 60), "stop": 80, "evaluate_at": (4, 8)}
MINE = [claim.id for claim in claims.load(CLAIMS, KINDS)]
REPRODUCED, NOT, UNDECIDED = "reproduced", "refuted", "undecided"
UNTESTED = "not tested at this scale"


def decided(tmp_path, name="digits", change=None, **effects):
    """{claim id: its verdict's row} of synthetic metrics."""
    settings = synthetic.settings(**{**SMALL, **(change or {})})
    metrics = synthetic.write(settings, tmp_path, name=name, images=30, **effects)
    report = verdict.decide(metrics, claims.load(CLAIMS, KINDS), TESTS)
    json.dumps(report, allow_nan=False)
    assert report["scale"] == name
    return {row["id"]: row for row in report["claims"]}


def shifts(**changes):
    return {**synthetic.SHIFTS, **changes}


def gains(**changes):
    return {**synthetic.GAINS, **changes}


def test_verdicts_flip_with_the_metrics(tmp_path):
    good = decided(tmp_path / "good", fall=0.2)
    assert {key: row["verdict"] for key, row in good.items()} == {
        **dict.fromkeys(MINE, REPRODUCED),
        "figure1-cifar10": UNTESTED,
    }
    bad = decided(
        tmp_path / "bad",
        fall=-0.2,
        shifts=shifts(simple_tbc=0.01, vlb_tbc=0.01),
        gains=gains(simple_tbc=-0.5, vlb_tbc=-0.5),
    )
    assert {key: row["verdict"] for key, row in bad.items()} == {
        **dict.fromkeys(MINE, NOT),
        "figure1-cifar10": UNTESTED,
    }


@pytest.mark.parametrize(
    ("claim", "effect", "unit", "parts"),
    [
        ("simple-at-equal-steps", -0.01, "bits/dim", 3),
        ("simple-at-equal-steps-mean", -0.01, "bits/dim", 1),
        ("reweighted-at-equal-steps", -0.006, "bits/dim", 3),
        ("vlb-at-equal-steps", -0.006, "bits/dim", 3),
        ("log-p-of-the-paper-s-arm", -0.8, "nats", 1),
        ("log-p-beside-the-bound", -0.6, "nats", 1),
    ],
)
def test_the_estimate_is_the_effect_and_its_interval_holds_it(tmp_path, claim, effect, unit, parts):
    """Whatever the seeds' baselines differ by, which is more than any effect."""
    row = decided(tmp_path)[claim]
    assert row["interval"][0] < effect < row["interval"][1] < 0
    assert row["estimate"] == pytest.approx(effect, abs=0.0015)
    assert (row["seeds"], row["unit"], len(row["parts"])) == (3, unit, parts)
    if parts > 1:
        assert row["detail"].startswith("reproduced at 3, undecided at 0, refuted at 0 of 3 checkpoints")


def exchanged(values, how):
    """Files of three seeds, of which each has what belongs to the next seed, or to the next image."""
    if how == "seeds":
        return values[1:] + values[:1]
    for value in values:
        fields = [*value["points"], *([value["log_p"]["per_image"]] if value["log_p"] else [])]
        for field in fields:
            key = "per_image" if "per_image" in field else "log_p"
            field[key] = field[key][1:] + field[key][:1]
    return values


@pytest.mark.parametrize("how", ["seeds", "images"])
def test_a_wrong_pairing_decides_nothing(tmp_path, how):
    settings = synthetic.settings(**SMALL)
    synthetic.write(settings, tmp_path, images=30)
    for arm in ("simple", "vlb", "reweighted"):
        for checkpoint in SMALL["checkpoints"]:
            folder = tmp_path / "digits/images/metrics/nll" / arm
            paths = [folder / f"{checkpoint}-{seed}.json" for seed in (0, 1, 2)]
            for path, value in zip(paths, exchanged([json.loads(path.read_text()) for path in paths], how)):
                path.write_text(json.dumps(value))
    report = verdict.decide(
        Metrics("digits", settings, synthetic.ARMS, tmp_path), claims.load(CLAIMS, KINDS), TESTS
    )
    rows = {row["id"]: row for row in report["claims"]}
    for claim in ("simple-at-equal-steps", "reweighted-at-equal-steps", "vlb-at-equal-steps"):
        assert rows[claim]["verdict"] == UNDECIDED
    for claim in ("log-p-of-the-paper-s-arm", "log-p-beside-the-bound"):
        assert rows[claim]["verdict"] == UNDECIDED


def test_one_bad_checkpoint_decides_against_every(tmp_path):
    rows = decided(tmp_path, shifts=shifts(simple_tbc=lambda c: 0.01 if c == 40 else -0.05))
    row = rows["simple-at-equal-steps"]
    assert row["verdict"] == NOT
    assert row["where"] == "checkpoint 40 + 8 steps" and row["estimate"] > 0
    assert "reproduced at 2, undecided at 0, refuted at 1 of 3 checkpoints" in row["detail"]
    assert rows["simple-at-equal-steps-mean"]["verdict"] == REPRODUCED


def test_no_effect_is_undecided(tmp_path):
    """By every draw but one in twenty."""
    rows = [
        decided(
            tmp_path,
            arms=["simple", "simple_tbc"],
            change={"checkpoints": (20,)},
            shifts=shifts(simple_tbc=0.0),
            draw=draw,
        )["simple-at-equal-steps"]
        for draw in range(10)
    ]
    undecided = [row for row in rows if row["verdict"] == UNDECIDED]
    assert len(undecided) >= 8
    assert all("could not have been seen" in row["detail"] for row in undecided)


def test_a_gain_that_is_only_reweighting_is_told(tmp_path):
    rows = decided(tmp_path, shifts=shifts(reweighted=-0.02, vlb=-0.02))
    assert rows["simple-at-equal-steps"]["verdict"] == REPRODUCED
    assert rows["reweighted-at-equal-steps"]["verdict"] == NOT
    assert rows["vlb-at-equal-steps"]["verdict"] == NOT


def test_a_lower_bound_that_hides_a_lower_log_p_is_told(tmp_path):
    rows = decided(tmp_path, gains=gains(simple_tbc=-0.3))
    assert rows["simple-at-equal-steps"]["verdict"] == REPRODUCED
    row = rows["log-p-of-the-paper-s-arm"]
    assert row["verdict"] == NOT and row["where"] == "checkpoint 60"
    assert row["estimate"] == pytest.approx(0.3, abs=0.01)
    assert "24 images, 32 trajectories each" in row["detail"] and "−0.50 nats" in row["detail"]


def test_cost_decides_at_equal_evaluations(tmp_path):
    cheap = decided(tmp_path / "cheap", fall=0.2)
    assert cheap["baseline-at-equal-evaluations"]["verdict"] == REPRODUCED
    dear = decided(tmp_path / "dear", cost=3, fall=0.1)
    assert dear["figure1-from-every-checkpoint"]["verdict"] == REPRODUCED
    assert dear["baseline-at-equal-evaluations"]["verdict"] == NOT


def test_what_the_scale_lacks_is_not_tested(tmp_path):
    rows = decided(tmp_path, arms=["simple_tbc"], fall=0.2)
    for claim in ("simple-at-equal-steps", "log-p-of-the-paper-s-arm"):
        assert rows[claim]["verdict"] == UNTESTED and rows[claim]["estimate"] is None
        assert "arm simple" in rows[claim]["detail"]
    assert "arm vlb_tbc, arm vlb" in rows["log-p-beside-the-bound"]["detail"]
    assert rows["figure1-from-every-checkpoint"]["verdict"] == REPRODUCED


def test_the_cifar10_claim_needs_its_scale(tmp_path):
    at_cifar10 = decided(tmp_path, name="cifar10", fall=0.2)["figure1-cifar10"]
    assert at_cifar10["verdict"] == REPRODUCED
    here = decided(tmp_path, fall=0.2)["figure1-cifar10"]
    assert here["verdict"] == UNTESTED and here["estimate"] is here["interval"] is None


def test_one_seed_is_flagged(tmp_path):
    rows = decided(tmp_path, change={"seeds": (5,)}, fall=0.2)
    row = rows["simple-at-equal-steps"]
    assert row["seeds"] == 1 and "one baseline: the interval covers images only" in row["detail"]
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
    below = {"kind": "finetune_below", "arm": "simple_tbc", "checkpoints": "all", "equal": "steps"}
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
        ({"kind": "log_p_above", "reference": "baseline_next"}, "test.reference: expected one of"),
        ({"kind": "log_p_above", "reference": "simple_tbc"}, "test.reference: must be another one"),
    ],
)
def test_a_claim_that_contradicts_itself_is_one_line(tmp_path, change, said):
    test = {"kind": "finetune_below", "arm": "simple_tbc", "reference": "simple", "equal": "steps"}
    test |= {"checkpoints": "all", "at": "last", **change}
    if test["kind"] == "log_p_above":
        test = {key: test[key] for key in ("kind", "arm", "reference")}
    claim = {"claim": "c", "paper": "p", "source": "s", "scales": None}
    path = tmp_path / "claims.yaml"
    path.write_text(json.dumps({"x": {**claim, "test": test}}))
    with pytest.raises(UserError) as error:
        claims.load(path, KINDS)
    assert f"claims.yaml: x: {said}" in str(error.value) and "\n" not in str(error.value)
