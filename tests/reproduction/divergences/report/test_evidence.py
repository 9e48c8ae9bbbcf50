"""The verdicts on the divergences follow the metrics."""

import json
from itertools import combinations

import numpy as np
import pytest
from helpers import synthetic_divergences as synthetic
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.divergences.report import evidence, ranking, tables
from reproduction.divergences.report.metrics import Metrics
from reproduction.verdicts import claims, verdict

FOUR = ("reverse_kl", "forward_kl", "renyi", "tsallis")
REPRODUCED, REFUTED, UNDECIDED = "reproduced", "refuted", "undecided"
UNTESTED = "not tested at this scale"


def claimed():
    return claims.load(REPOSITORY / "claims/divergences.yaml", evidence.KINDS)


def measured(folder, name="divergences", **how):
    """The metrics of synthetic files; settings by their names, what to write by the writer's."""
    return Metrics(name, synthetic.write_some(folder, name, **how), folder)


def decided(folder, **how):
    return {
        row["id"]: row for row in verdict.decide(measured(folder, **how), claimed(), evidence.TESTS)["claims"]
    }


# As the paper claims it: the value that the metric of a task is to have, and how fast it is to fall.
FINAL = {("sets", name): 0.03 for name in FOUR} | {
    ("sequences", "reverse_kl"): 0.05,
    ("mixture", "forward_kl"): 0.02,
    **{("banana", name): 0.04 for name in ("forward_kl", "renyi", "tsallis")},
}
SPEED = {("hypergrid", "trajectory_balance"): 9.0} | {("sets", name): 7.0 for name in FOUR}
TRACES = {(name, variate): 0.5 for name in FOUR for variate in ("both", "both_signed", "combined")}
TRACES |= {(name, variate): 0.3 for name in FOUR for variate in ("both_signed", "combined")}


def test_verdicts_flip_with_the_metrics(tmp_path):
    good = decided(tmp_path / "good", final=FINAL, speed=SPEED, traces=TRACES)
    assert {key: row["verdict"] for key, row in good.items()} == dict.fromkeys(good, REPRODUCED)
    assert len(good) == len(claimed())
    bad = decided(
        tmp_path / "bad",
        final=dict.fromkeys(FINAL, 0.2) | {("phylogeny", "renyi"): 0.2},
        speed={(task, name): 10 - speed for (task, name), speed in SPEED.items()}
        | {("sequences", "tsallis"): 3.0},
        traces={key: 2 - trace for key, trace in TRACES.items()},
    )
    assert {key: row["verdict"] for key, row in bad.items()} == dict.fromkeys(bad, REFUTED) | {
        "divergences-banana-alike": REPRODUCED
    }
    banana = decided(
        tmp_path / "apart", final={("banana", "reverse_kl"): 0.12}, tasks=["banana"], gradients=()
    )
    assert banana["divergences-banana-alike"]["verdict"] == REFUTED


def test_estimates_and_intervals(tmp_path):
    row = decided(tmp_path, final=FINAL, tasks=["sequences"], gradients=["sets"], traces=TRACES)
    below, above = (row[key] for key in ("divergences-sequences", "variance-reverse-kl"))
    assert below["estimate"] == pytest.approx(-0.05, rel=0.02)  # the spread is 1 % of either value
    assert below["interval"][0] < below["estimate"] < below["interval"][1] < 0
    assert (below["seeds"], below["unit"], below["where"]) == (3, "L1", "reverse KL against TB")
    # Half the trace. What all traces of a group share, a factor of e or so, cancels, and 1 % each is left; unpaired, the
    # interval over eight groups would be 2 · 2.36 · √2/√8 = 2.4 wide.
    assert above["estimate"] == pytest.approx(np.log(0.5), abs=0.02) and above["unit"] == "log-ratio"
    assert 0.005 < np.ptp(above["interval"]) < 0.1
    assert (
        row["divergences-sets"]["verdict"] == UNTESTED
        and "the task sets" in row["divergences-sets"]["detail"]
    )


def test_an_estimate_s_own_error_widens_the_interval(tmp_path):
    """L1 of sets is an estimate at the same objects for every seed, so that no number of seeds makes it smaller."""
    how = {"final": FINAL, "tasks": ["sets"], "gradients": ()}
    paired = measured(tmp_path / "paired", **how).difference("sets", "renyi", "tsallis")
    # What a seed does to both, 1 % of 0.03, cancels; unpaired, t_2 · 3e-4 · √2/√3 = 1e-3.
    assert paired.high - paired.low < 1e-4
    assert decided(tmp_path / "exact", **how)["divergences-sets"]["verdict"] == REPRODUCED
    assert decided(tmp_path / "vague", **how, error=0.03)["divergences-sets"]["verdict"] == UNDECIDED


def test_what_cannot_be_decided_is_not_tested(tmp_path):
    rows = decided(tmp_path / "one", seeds=(0,), final=FINAL, gradients=())
    assert {row["verdict"] for row in rows.values()} == {UNTESTED}
    assert "more than one seed" in rows["divergences-sets"]["detail"]
    alone = Metrics("divergences", synthetic.settings(seeds=(0,), gradients=()), tmp_path / "one")
    assert set(ranking.table(alone)["as good as the best"][:-2]) == {"one seed: not judged"}
    assert not tables.table(alone)["best"].any()
    rows = decided(tmp_path / "smoke", name="smoke", final=FINAL, traces=TRACES)
    assert rows["divergences-sets"]["verdict"] == UNTESTED
    assert rows["variance-renyi"]["verdict"] == REPRODUCED
    fewer = [name for name in synthetic.ALL if name != "renyi"]
    rows = decided(tmp_path / "fewer", objectives=fewer, final=FINAL, tasks=["sets"], gradients=())
    assert (
        rows["divergences-sets"]["verdict"] == UNTESTED
        and "Rényi-α on sets" in rows["divergences-sets"]["detail"]
    )
    rows = decided(
        tmp_path / "against", objectives=fewer, tasks=["sets"], gradients=(), final={("sets", "tsallis"): 0.2}
    )
    assert rows["divergences-sets"]["verdict"] == REFUTED  # whatever the missing one would show


@pytest.mark.parametrize(
    "at_least, expected", [(1, REPRODUCED), (2, REPRODUCED), (3, UNTESTED), (4, REFUTED)]
)
def test_at_least_counts_those_that_are_missing(tmp_path, at_least, expected):
    """Of four, two hold, one fails and one is missing: two are enough, three are open, four are lost."""
    objectives = ["trajectory_balance", "reverse_kl", "forward_kl", "tsallis"]
    final = {("sets", "reverse_kl"): 0.05, ("sets", "forward_kl"): 0.05, ("sets", "tsallis"): 0.2}
    metrics = measured(tmp_path, objectives=objectives, tasks=["sets"], gradients=(), final=final)
    claim = next(claim for claim in claimed() if claim.id == "divergences-sets")
    claim = claim._replace(test=claim.test.model_copy(update={"at_least": at_least}))
    (row,) = verdict.decide(metrics, [claim], evidence.TESTS)["claims"]
    assert row["verdict"] == expected
    assert len(row["parts"]) == {1: 1, 2: 2, 3: 2, 4: 3}[at_least]  # no more than are asked for


def of_phylogeny(final, spread, draws, folder):
    """The verdicts' rows on phylogenies of ``draws`` experiments with independent normal errors, and the metrics.

    final: {objective: its mean L1}; 0.2 for the others. spread: the errors' standard deviation.
    """
    metrics, rng = measured(folder, tasks=["phylogeny"], gradients=()), np.random.default_rng(0)
    claim = next(claim for claim in claimed() if claim.id == "divergences-phylogeny")
    for _ in range(draws):
        for run in metrics.tasks["phylogeny"]["runs"]:
            run["final"]["exact"] = final.get(run["objective"], 0.2) + spread * rng.normal()
        yield verdict.decide(metrics, [claim], evidence.TESTS)["claims"][0], metrics


def test_alike_is_shown_and_not_assumed(tmp_path):
    """Equal objectives: small errors show it, by the 90 % intervals, though the wider ones that are quoted reach beyond
    the margin; large errors leave it open, however well the interval contains zero."""
    for spread, expected in ((0.004, REPRODUCED), (0.3, UNDECIDED)):
        rows = [row for row, _ in of_phylogeny({}, spread, 20, tmp_path / str(spread))]
        assert sum(row["verdict"] == expected for row in rows) >= 18
        assert sum(row["interval"][1] > 0.04 for row in rows) >= 18
    assert "L1 could not have been seen" in rows[-1]["detail"]
    assert len(rows[-1]["parts"]) == 10 and rows[-1]["interval"][0] < -0.04


def test_a_pair_that_differs_by_the_margin_passes_in_at_most_one_of_twenty(tmp_path):
    """TB 0.04 above the four others: every pair of it is at the margin, and all must pass. More than 9 of 60 have
    probability 7e-4 at a rate of 0.05. That they differ is no contradiction: at half the margin they pass."""
    at = [row["verdict"] for row, _ in of_phylogeny({"trajectory_balance": 0.24}, 0.001, 60, tmp_path / "at")]
    assert at.count(REPRODUCED) < 10
    half = of_phylogeny({"trajectory_balance": 0.22}, 0.001, 10, tmp_path / "half")
    assert all(row["verdict"] == REPRODUCED for row, _ in half)
    apart = of_phylogeny({"trajectory_balance": 0.34}, 0.001, 10, tmp_path / "apart")
    assert all(row["verdict"] == REFUTED for row, _ in apart)


def test_pairs_that_are_equal_seem_apart_as_often_as_they_may(tmp_path):
    """Five equal objectives, three seeds, errors that leave the margin far behind: 5 of 100 claims are refuted in
    expectation at most, and 36 with intervals at 95 % each.

    Of 60 draws: more than 9 have probability 7e-4 at a rate of 0.05, and fewer than 10 have 2e-4 at 0.36.
    """
    names, each, together = ("trajectory_balance", *FOUR), 0, 0
    for row, metrics in of_phylogeny({}, 30.0, 60, tmp_path):
        together += row["verdict"] == REFUTED
        intervals = [metrics.difference("phylogeny", *pair) for pair in combinations(names, 2)]
        each += any(interval.low > 0.04 or interval.high < -0.04 for interval in intervals)
    assert together < 10 <= each


def test_as_fast_is_not_shown_by_an_interval_that_contains_zero(tmp_path):
    """What learns as fast to within the margin is shown; with one objective's seeds far apart it is open."""
    fast = {"speed": SPEED, "tasks": ["sets"], "gradients": ()}
    metrics = measured(tmp_path, **fast)
    claim = next(claim for claim in claimed() if claim.id == "divergences-speed-sets")
    (row,) = verdict.decide(metrics, [claim], evidence.TESTS)["claims"]
    assert row["verdict"] == REPRODUCED
    for run in metrics.tasks["sets"]["runs"]:
        if run["objective"] == "renyi":
            run["curve"]["value"] = [value + (-0.4, 0.5, 0.0)[run["seed"]] for value in run["curve"]["value"]]
    (row,) = verdict.decide(metrics, [claim], evidence.TESTS)["claims"]
    assert row["verdict"] == UNDECIDED and row["where"].startswith("Rényi")


@pytest.mark.parametrize("groups, expected", [(1, UNTESTED), (0, UNTESTED), (2, REPRODUCED)])
def test_control_variates_need_two_groups_of_batches(tmp_path, groups, expected):
    metrics = measured(tmp_path, tasks=["sets"], gradients=["sets"], traces=TRACES)
    for row in metrics.gradients["sets"]["rows"]:
        row["traces"] = row["traces"][:groups]
    claim = next(claim for claim in claimed() if claim.id == "variance-renyi")
    (row,) = verdict.decide(metrics, [claim], evidence.TESTS)["claims"]
    assert row["verdict"] == expected


def test_a_trace_of_zero_has_no_logarithm(tmp_path):
    metrics = measured(tmp_path, tasks=["sets"], gradients=["sets"], traces=TRACES)
    metrics.gradients["sets"]["rows"][0]["traces"][0] = (
        0.0  # reverse KL without a control variate, the smallest batch
    )
    rows = {row["id"]: row for row in verdict.decide(metrics, claimed(), evidence.TESTS)["claims"]}
    assert rows["variance-reverse-kl"]["verdict"] == UNTESTED
    assert "sets, batch 8" in rows["variance-reverse-kl"]["detail"]
    assert rows["variance-renyi"]["verdict"] == REPRODUCED


def test_metrics_of_the_form_without_groups_are_one_line(tmp_path):
    chosen = synthetic.write_some(tmp_path, tasks=["sets"], gradients=["sets"])
    path = tmp_path / "divergences/divergences/metrics/gradients/sets.json"
    value = json.loads(path.read_text())
    del value["group"]
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"sets\.json: has no 'group'; .*dvc repro gradients@divergences"):
        Metrics("divergences", chosen, tmp_path)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"at_least": 5}, "at_least: must be at most the number of pairs, 4"),
        ({"reference": ["renyi"]}, "reference: must be others than `objectives`: renyi"),
        ({"objectives": ["renyi", "renyi"]}, "objectives: names something twice"),
        ({"task": "chess"}, "task: "),
        ({"margin": -0.1}, "margin: "),
    ],
)
def test_a_claim_s_mistakes_are_named(tmp_path, change, said):
    test = {
        **{
            "kind": "divergence_below",
            "task": "sets",
            "objectives": list(FOUR),
            "reference": ["trajectory_balance"],
        },
        **{"measure": "final", "margin": 0.0, "at_least": 1},
    }
    path = tmp_path / "claims.yaml"
    path.write_text(
        json.dumps({"a": {"claim": "c", "paper": "p", "source": "s", "scales": None, "test": test | change}})
    )
    with pytest.raises(UserError) as error:
        claims.load(path, evidence.KINDS)
    assert f"claims.yaml: a: test.{said}" in str(error.value)
