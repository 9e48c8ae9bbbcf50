"""The report of P_B on bit strings on metrics whose effects are known: verdicts, table, equal bytes."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import synthetic_consistency, synthetic_policies
from helpers.parts import prepare
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.consistency.report import policy_evidence, policy_figure, policy_tables, run
from reproduction.consistency.report.evidence import KINDS, TESTS
from reproduction.consistency.report.policy_metrics import PolicyMetrics
from reproduction.stage import Stage
from reproduction.verdicts import claims, verdict

CLAIMS = [
    claim
    for claim in claims.load(REPOSITORY / "claims/consistency.yaml", KINDS)
    if claim.test.kind in policy_evidence.KINDS
]


def verdicts(metrics):
    report = verdict.decide(SimpleNamespace(name="consistency", policy=metrics), CLAIMS, TESTS)
    return {row["id"]: row["verdict"] for row in report["claims"]}


def test_what_was_predicted_is_reproduced(tmp_path):
    metrics = synthetic_policies.write(synthetic_policies.settings(), tmp_path)
    assert len(CLAIMS) == 6 and set(verdicts(metrics).values()) == {"reproduced"}


@pytest.mark.parametrize(
    "changes, refuted",
    [
        ({"nll": {**synthetic_policies.NLL, "tbc": -0.07}}, {"tbc-on-backward-is-the-score"}),
        ({"nll": {**synthetic_policies.NLL, "score": -0.07}}, {"tbc-on-backward-is-the-score"}),
        ({"bound": 0.03}, {"backward-tbc-tightens-the-bound"}),
        ({"nll": {**synthetic_policies.NLL, "free_uniform": 0.02}}, {"learned-backward-lowers-nll"}),
        ({"nll": {**synthetic_policies.NLL, "uniform": 0.02}}, {"averaging-lowers-nll"}),
        ({"order": 0.1}, {"free-backward-finds-the-order"}),
    ],
)
def test_what_is_otherwise_is_refuted(tmp_path, changes, refuted):
    found = verdicts(synthetic_policies.write(synthetic_policies.settings(), tmp_path, **changes))
    assert {name for name, word in found.items() if word == "refuted"} == refuted
    assert {word for name, word in found.items() if name not in refuted} == {"reproduced"}


def test_what_is_drowned_in_noise_is_undecided(tmp_path):
    found = verdicts(synthetic_policies.write(synthetic_policies.settings(), tmp_path, noise=0.1))
    assert found["tbc-on-backward-is-the-score"] == found["learned-backward-lowers-nll"] == "undecided"


def test_without_a_worth_of_the_order_alike_has_no_unit(tmp_path):
    nll = {**synthetic_policies.NLL, "ordered": 0.1}
    found = verdicts(synthetic_policies.write(synthetic_policies.settings(), tmp_path, nll=nll))
    assert found["tbc-on-backward-is-the-score"] == verdict.UNTESTED
    assert found["order-is-worth-something"] == "refuted"


def test_one_seed_fewer_arms_and_no_runs_leave_claims_untested(tmp_path):
    metrics = synthetic_policies.write(synthetic_policies.settings(seeds=[0]), tmp_path / "one")
    found = verdicts(metrics)
    assert found["averaging-lowers-nll"] == "reproduced", "by test points"
    assert found["tbc-on-backward-is-the-score"] == found["free-backward-finds-the-order"] == verdict.UNTESTED
    assert policy_figure.draw(metrics)["png"] and "1 seed," in policy_figure.caption(metrics)
    few = synthetic_policies.settings().model_copy(update={"arms": ["uniform_single", "score"]})
    found = verdicts(synthetic_policies.write(few, tmp_path / "few"))
    assert set(found.values()) == {verdict.UNTESTED}
    assert set(verdicts(PolicyMetrics("smoke", None, [])).values()) == {verdict.UNTESTED}


def test_the_table_shows_every_arm_beside_the_reference(tmp_path):
    metrics = synthetic_policies.write(synthetic_policies.settings(), tmp_path, noise=1e-9)
    frame = policy_tables.arms(metrics)
    assert len(frame) == 2 * 7
    row = frame[(frame.problem == "moons") & (frame.arm == "tbc")].iloc[0]
    assert row.nll_change == pytest.approx(-0.02) and row.elbo_nll_change == pytest.approx(-0.05)
    text = policy_tables.make(metrics)["policy.md"]
    assert "| −0.0200 ± 0.0000 |" in text and "4 seeds, 500 test points a seed" in text


def test_equal_metrics_make_equal_bytes(tmp_path):
    made = []
    for name in ("one", "two"):
        metrics = synthetic_policies.write(synthetic_policies.settings(), tmp_path / name)
        made.append(
            (policy_figure.draw(metrics), policy_figure.caption(metrics), policy_tables.make(metrics))
        )
    assert made[0] == made[1]


class Params:
    """Both parts' settings and lists of `digits`."""

    def __init__(self, policy):
        signed = synthetic_consistency.settings()
        self.settings = signed.model_copy(update={"policy": policy})
        self.listed = {
            "signed_runs": ["moons"],
            "policy_runs": ["circles"] if policy else [],
            "noising_runs": [],
        }

    def block(self, experiment, scale):
        return self.settings

    def items(self, experiment, scale):
        return []

    def lists(self, experiment, scale):
        return self.listed

    def runs(self, experiment, scale):
        return {}


@pytest.mark.parametrize("with_policy", [True, False])
def test_the_stage_reports_both_parts_or_one(tmp_path, monkeypatch, with_policy):
    monkeypatch.chdir(prepare(tmp_path))
    given = synthetic_policies.settings()
    synthetic_consistency.write(synthetic_consistency.settings(), "results", ["moons"])
    if with_policy:
        synthetic_policies.write(given, "results", ["circles"])
    run(Stage("consistency.report", "digits", None, Params(given if with_policy else None)))
    folder = Path("results/digits/consistency")
    assert (folder / "figures/slope.svg").is_file()
    assert (folder / "figures/policy.svg").is_file() == with_policy
    assert (folder / "tables/policy.csv").is_file() == with_policy
    rows = {row["id"]: row for row in json.loads((folder / "report/verdict.json").read_text())["claims"]}
    assert rows["odd-in-lambda"]["verdict"] == "reproduced"
    assert rows["averaging-lowers-nll"]["verdict"] == ("reproduced" if with_policy else verdict.UNTESTED)


@pytest.mark.parametrize(
    "breaking, said",
    [
        (lambda value: value.pop("runs"), "has no 'runs'"),
        (lambda value: value["runs"].pop(), "no ordered with seed 3"),
        (lambda value: value["runs"][0].update(nll=None), "something else than numbers"),
        (lambda value: value["runs"][0].pop("differences"), "something else than numbers"),
    ],
)
def test_metrics_that_do_not_fit_name_the_stage_that_makes_them(tmp_path, breaking, said):
    given = synthetic_policies.settings()
    synthetic_policies.write(given, tmp_path)
    path = Path(tmp_path, "digits/consistency/metrics/policy/moons.json")
    value = json.loads(path.read_text())
    breaking(value)
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=said) as error:
        PolicyMetrics("digits", given, ["moons"], tmp_path)
    assert "dvc repro policy@digits-moons" in str(error.value)
