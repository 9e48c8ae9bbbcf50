"""Verdicts follow the metrics, and claims.yaml cannot be wrong without a line that says where."""

import copy
import json

import pytest
import synthetic_metrics as synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mlegfn.errors import UserError
from mlegfn.report import claims, verdict

CLAIMS = synthetic.PARAMS.parent / "claims.yaml"
SMALL = {"checkpoints": (20, 40, 60), "stop": 80, "evaluate_at": (4, 8)}
RAW = YAML(typ="safe", pure=True).load(CLAIMS.read_text())
MINE = [claim.id for claim in claims.load(CLAIMS)]  # the others: tests/test_{discrete,divergences}*.py
REPRODUCED, NOT, UNTESTED = "reproduced", "not reproduced", "not tested at this scale"


def decided(tmp_path, name="digits", change=None, **effects):
    """{claim id: its verdict's row} of synthetic metrics."""
    given_scale = synthetic.scale(**{**SMALL, **(change or {})})
    metrics = synthetic.write(given_scale, tmp_path, name=name, images=30, **effects)
    report = verdict.decide(metrics, claims.load(CLAIMS))
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
    bad = decided(tmp_path / "bad", fall=-0.2, cost=1, shifts=shifts(tbc=0.01), planar_shift=0.05, mmd=3)
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
    rows = decided(tmp_path, change={"arms": ["tbc"], "problems": ["moons"]}, fall=0.2)
    assert rows["simple-at-equal-steps"]["verdict"] == UNTESTED
    assert "arm simple" in rows["simple-at-equal-steps"]["detail"]
    assert rows["simple-at-equal-steps"]["estimate"] is None
    assert rows["figure1-from-every-checkpoint"]["verdict"] == REPRODUCED
    assert rows["figure2-samples-match"]["verdict"] == UNTESTED
    assert "pinwheel" in rows["figure2-samples-match"]["detail"]
    simple = decided(tmp_path / "simple", change={"planar_arms": ["simple", "tbc"]})
    assert simple["planar-nll-below-vlb"]["verdict"] == UNTESTED
    assert simple["planar-nll-below-ddpm"]["verdict"] == REPRODUCED
    none = decided(tmp_path / "none", change={"problems": []})
    assert none["planar-nll-below-ddpm"]["verdict"] == UNTESTED


def test_one_problem_that_fails_decides_even_if_others_lack(tmp_path):
    rows = decided(tmp_path, change={"problems": ["moons"]}, planar_shift=0.05, mmd=2)
    assert rows["figure2-samples-match"]["verdict"] == rows["planar-nll-below-ddpm"]["verdict"] == NOT


def test_the_cifar10_claim_needs_its_scale(tmp_path):
    at_cifar10 = decided(tmp_path, name="cifar10", fall=0.2)["figure1-cifar10"]
    assert at_cifar10["verdict"] == REPRODUCED
    here = decided(tmp_path, fall=0.2)["figure1-cifar10"]
    assert here["verdict"] == UNTESTED and here["estimate"] is here["interval"] is None


def test_one_seed_is_flagged(tmp_path):
    rows = decided(tmp_path, change={"seeds": (5,)}, fall=0.2)
    row = rows["simple-at-equal-steps"]
    assert row["seeds"] == 1 and "one seed: the interval covers images only" in row["detail"]
    assert "one seed" in rows["planar-nll-below-ddpm"]["detail"]
    text = verdict.markdown({"scale": "digits", "claims": list(rows.values())})
    assert "1 (interval not over seeds)" in text


def test_the_floor_is_the_95_percent_quantile(tmp_path):
    within = decided(tmp_path / "within", mmd=0.9)["figure2-samples-match"]
    above = decided(tmp_path / "above", mmd=1.1)["figure2-samples-match"]
    assert (within["verdict"], above["verdict"]) == (REPRODUCED, NOT)
    assert within["estimate"] < 0 < above["estimate"]


def test_the_table_says_what_the_json_says(tmp_path):
    rows = decided(tmp_path)
    text = verdict.markdown({"scale": "digits", "claims": list(rows.values())})
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    for line, row in zip(lines[2:], rows.values()):
        assert row["claim"] in line and row["paper"] in line and f"**{row['verdict']}**" in line


def test_every_kind_of_test_and_every_moment(tmp_path):
    path = tmp_path / "claims.yaml"
    text = {"claim": "c", "paper": "p", "source": "s", "scales": None}
    below = {"kind": "finetune_below", "arm": "tbc", "checkpoints": "all", "equal": "steps"}
    planar = {"kind": "planar_below", "model": "mle_gfn", "reference": "ddpm", "problems": ["moons"]}
    raw = {
        "next": {**text, "test": {**below, "reference": "baseline_next", "at": "last"}},
        "moments": {**text, "test": {**below, "reference": "simple", "at": "every"}},
        "mmd": {**text, "test": {**planar, "metric": "mmd"}},
        "elbo": {**text, "test": {**planar, "metric": "elbo_nll"}},
    }
    path.write_text(json.dumps(raw))
    metrics = synthetic.write(synthetic.scale(**SMALL), tmp_path, images=30, mmd=0.5)
    rows = {row["id"]: row for row in verdict.decide(metrics, claims.load(path))["claims"]}
    assert rows["next"]["verdict"] == NOT  # 20 more steps of the baseline are worth more
    assert len(rows["moments"]["parts"]) == 3 * 2 and "measured points" in rows["moments"]["detail"]
    assert rows["mmd"]["verdict"] == rows["elbo"]["verdict"] == REPRODUCED


# --- claims.yaml --------------------------------------------------------------------------------------------


def errors_of(tmp_path, raw):
    """The lines of the UserError that ``raw`` gives, or none; anything else than a UserError is a failure."""
    path = tmp_path / "claims.yaml"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    try:
        claims.load(path)
    except UserError as error:
        return str(error).splitlines()
    return []


def test_the_claims_of_the_repository_are_sound():
    loaded = claims.load(CLAIMS)
    assert {claim.test.kind for claim in loaded} == {"finetune_below", "planar_within_floor", "planar_below"}


def test_a_verdict_cannot_be_typed_in(tmp_path):
    for place in ((), ("test",)):
        for key in ("verdict", "estimate", "interval"):
            raw = copy.deepcopy(RAW)
            block = raw["figure2-samples-match"]
            for each in place:
                block = block[each]
            block[key] = "reproduced"
            lines = errors_of(tmp_path, raw)
            assert len(lines) == 1 and lines[0].startswith("claims.yaml: figure2-samples-match: ")
            assert key in lines[0]


def test_an_unknown_kind_lists_those_there_are(tmp_path):
    raw = copy.deepcopy(RAW)
    raw["planar-nll-below-ddpm"]["test"]["kind"] = "looks_nice"
    (line,) = errors_of(tmp_path, raw)
    assert all(kind in line for kind in claims.KINDS) and "test.kind" in line


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{}", "a: [", "a: 1\na: 2\n", "\x00", "a: &a [*a]", "? {a: b}\n: c"]
)
def test_what_is_not_claims_is_one_line(tmp_path, text):
    assert len(errors_of(tmp_path, text)) == 1


def leaves(raw):
    """The paths of all settings of one claim, but two: with another kind all the rest is wrong, and a wrong
    ``at_least`` is hard to find among integers.
    """
    for name, claim in raw.items():
        for key, value in claim.items():
            if key != "test":
                yield (name, key)
            else:
                yield from ((name, "test", inner) for inner in value if inner not in ("kind", "at_least"))


WRONG = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.just(""), st.just([]), st.dictionaries(st.text(), st.none())
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(sorted(leaves(RAW))), WRONG, min_size=1, max_size=6),
)
def test_one_error_for_each_broken_key(tmp_path, broken):
    raw = copy.deepcopy(RAW)
    for path, value in broken.items():
        block = raw
        for key in path[:-1]:
            block = block[key]
        block[path[-1]] = value
    lines = errors_of(tmp_path, raw)
    assert len(lines) == len(broken), lines
    for name, *keys in broken:
        assert sum(line.startswith(f"claims.yaml: {name}: {'.'.join(keys)}: ") for line in lines) == 1


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JUNK, st.sampled_from([(), ("simple-at-equal-steps",), ("simple-at-equal-steps", "test")]))
def test_junk_never_gives_a_traceback(tmp_path, junk, place):
    raw = copy.deepcopy(RAW)
    if place:
        block = raw
        for key in place[:-1]:
            block = block[key]
        block[place[-1]] = junk
    else:
        raw = junk
    lines = errors_of(tmp_path, raw)
    assert lines and all(line.startswith("claims.yaml: ") or "claims.yaml" in line for line in lines)
