"""Verdicts about the planar problems follow the metrics."""

import json

import pytest
from helpers import synthetic_planar as synthetic
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.planar.report.evidence import KINDS, TESTS
from reproduction.verdicts import claims, verdict

CLAIMS = claims.load(REPOSITORY / "claims/planar.yaml", KINDS)
REPRODUCED, REFUTED, UNDECIDED = "reproduced", "refuted", "undecided"
UNTESTED = "not tested at this scale"


def decided(folder, given=CLAIMS, seeds=(0, 1, 2), arms=("simple", "vlb", "vlb_tbc"), **effects):
    """{claim id: its verdict's row} of synthetic metrics."""
    metrics = synthetic.write(synthetic.settings(seeds, arms), folder, **effects)
    report = verdict.decide(metrics, given, TESTS)
    json.dumps(report, allow_nan=False)
    return {row["id"]: row for row in report["claims"]}


def test_verdicts_flip_with_the_metrics(tmp_path):
    assert {claim.test.kind for claim in CLAIMS} == set(KINDS) == set(TESTS)
    good = decided(tmp_path / "good")
    assert {row["verdict"] for row in good.values()} == {REPRODUCED}
    bad = decided(tmp_path / "bad", shift=0.05, mmd=3)
    assert {row["verdict"] for row in bad.values()} == {REFUTED}


def test_the_estimate_is_the_effect_and_its_interval_holds_it(tmp_path):
    row = decided(tmp_path, shift=-0.05)["planar-nll-below-ddpm"]
    assert row["interval"][0] < -0.05 < row["interval"][1] + 0.01 and row["interval"][1] < 0
    assert row["estimate"] == pytest.approx(-0.05, abs=0.01)
    assert (row["seeds"], row["unit"], len(row["parts"])) == (3, "nats", 7)
    assert row["detail"].startswith("reproduced at 7, undecided at 0, refuted at 0 of 7 problems")


def test_what_the_scale_lacks_is_not_tested(tmp_path):
    rows = decided(tmp_path, problems=["moons"])
    assert rows["figure2-samples-match"]["verdict"] == UNTESTED
    assert "pinwheel" in rows["figure2-samples-match"]["detail"]
    simple = decided(tmp_path / "simple", arms=["simple", "vlb_tbc"])
    assert simple["planar-nll-below-vlb"]["verdict"] == UNTESTED
    assert simple["planar-nll-below-ddpm"]["verdict"] == REPRODUCED
    none = decided(tmp_path / "none", problems=[])
    assert none["planar-nll-below-ddpm"]["verdict"] == UNTESTED


def test_one_problem_that_fails_decides_even_if_others_lack(tmp_path):
    rows = decided(tmp_path, problems=["moons"], shift=0.05, mmd=2)
    assert rows["figure2-samples-match"]["verdict"] == rows["planar-nll-below-ddpm"]["verdict"] == REFUTED


def test_one_seed_is_flagged(tmp_path):
    rows = decided(tmp_path, seeds=(5,))
    assert (
        "one seed: the interval covers the error of the estimate" in rows["planar-nll-below-ddpm"]["detail"]
    )
    assert rows["planar-nll-below-ddpm"]["seeds"] == 1
    assert (
        rows["figure2-samples-match"]["verdict"] == UNTESTED
    )  # nothing says how far its one value may be off
    assert "pinwheel (one seed)" in rows["figure2-samples-match"]["detail"]


def test_the_floor_is_the_95_percent_quantile(tmp_path):
    within = decided(tmp_path / "within", mmd=0.9)["figure2-samples-match"]
    above = decided(tmp_path / "above", mmd=1.1)["figure2-samples-match"]
    assert (within["verdict"], above["verdict"]) == (REPRODUCED, REFUTED)
    assert within["interval"][1] < 0 < above["interval"][0]


@pytest.mark.parametrize("mmd", [0.995, 1.005])
def test_the_interval_decides_and_not_the_mean(tmp_path, mmd):
    """Half a percent off the floor's quantile, with a spread of 2 % over three seeds, either way."""
    claim = next(claim for claim in CLAIMS if claim.id == "figure2-samples-match")
    claim = claim._replace(test=claim.test.model_copy(update={"problems": ["moons"]}))
    row = decided(tmp_path, [claim], mmd=mmd)["figure2-samples-match"]
    assert row["verdict"] == UNDECIDED and row["interval"][0] < 0 < row["interval"][1]


def test_no_effect_is_undecided(tmp_path):
    row = decided(tmp_path, shift=0.0)["planar-nll-below-ddpm"]
    assert row["verdict"] == UNDECIDED and "nats could not have been seen" in row["detail"]


def written(folder, **test):
    """The claims of a file with one claim of this test."""
    base = {
        "kind": "planar_below",
        "model": "mle_gfn",
        "reference": "ddpm",
        "metric": "nll",
        "problems": ["moons"],
    }
    claim = {"claim": "c", "paper": "p", "source": "s", "scales": None, "test": {**base, **test}}
    (folder / "claims.yaml").write_text(json.dumps({"one": claim}))
    return claims.load(folder / "claims.yaml", KINDS)


@pytest.mark.parametrize("metric", ["mmd", "elbo_nll"])
def test_every_metric(tmp_path, metric):
    given = written(tmp_path, metric=metric)
    assert decided(tmp_path, given)["one"]["verdict"] == REPRODUCED
    one_seed = decided(tmp_path / "one", given, seeds=(0,))["one"]
    assert (one_seed["verdict"] == UNTESTED) == (
        metric == "mmd"
    )  # nothing says how far its one value may be off


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"reference": "mle_gfn"}, "test.reference: must be another one than `model`"),
        ({"problems": ["mars"]}, "test.problems[0]: expected one of 2spirals"),
        ({"metric": "fid"}, "test.metric: expected one of nll, elbo_nll, mmd"),
        ({"verdict": "reproduced"}, "test.verdict: unknown setting"),
    ],
)
def test_a_claim_that_is_wrong_is_one_line(tmp_path, wrong, said):
    with pytest.raises(UserError) as error:
        written(tmp_path, **wrong)
    assert said in str(error.value) and "\n" not in str(error.value)
