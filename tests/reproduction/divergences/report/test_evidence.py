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
REPRODUCED, NOT, UNTESTED = "reproduced", "not reproduced", "not tested at this scale"


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
    assert {key: row["verdict"] for key, row in bad.items()} == dict.fromkeys(bad, NOT) | {
        "divergences-banana-alike": REPRODUCED
    }
    banana = decided(
        tmp_path / "apart", final={("banana", "reverse_kl"): 0.12}, tasks=["banana"], gradients=()
    )
    assert banana["divergences-banana-alike"]["verdict"] == NOT


def test_estimates_and_intervals(tmp_path):
    row = decided(tmp_path, final=FINAL, tasks=["sequences"], gradients=["sets"], traces=TRACES)
    below, above = (row[key] for key in ("divergences-sequences", "variance-reverse-kl"))
    assert below["estimate"] == pytest.approx(-0.05, rel=0.02)  # the spread is 1 % of either value
    assert below["interval"][0] < below["estimate"] < below["interval"][1] < 0
    assert (below["seeds"], below["unit"], below["where"]) == (3, "L1", "reverse KL against TB")
    # Half the trace, each with a standard error of 1 % of the larger one: by the delta method √(0.01² + 0.005²).
    assert above["estimate"] == pytest.approx(-0.5)
    assert np.ptp(above["interval"]) == pytest.approx(2 * 1.959964 * np.hypot(0.01, 0.005))
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
    assert decided(tmp_path / "vague", **how, error=0.03)["divergences-sets"]["verdict"] == NOT


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
    assert rows["divergences-sets"]["verdict"] == NOT  # whatever the missing one would show


@pytest.mark.parametrize("at_least, expected", [(1, REPRODUCED), (2, REPRODUCED), (3, UNTESTED), (4, NOT)])
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


def test_pairs_that_are_equal_seem_apart_as_often_as_they_may(tmp_path):
    """Five equal objectives, three seeds: 5 of 100 claims in expectation at most, and 36 with intervals at 95 % each.

    Of 60 draws: more than 9 have probability 7e-4 at a rate of 0.05, and fewer than 10 have 2e-4 at 0.36.
    """
    metrics, rng = measured(tmp_path, tasks=["phylogeny"], gradients=()), np.random.default_rng(0)
    claim = next(claim for claim in claimed() if claim.id == "divergences-phylogeny")
    names, each, together = claim.test.objectives, 0, 0
    for _ in range(60):
        for run in metrics.tasks["phylogeny"]["runs"]:
            run["final"]["exact"] = 0.2 + 0.01 * rng.normal()
        (row,) = verdict.decide(metrics, [claim], evidence.TESTS)["claims"]
        together += row["verdict"] == NOT
        each += any(
            metrics.difference("phylogeny", *pair).outcome != "indistinguishable"
            for pair in combinations(names, 2)
        )
    assert together < 10 <= each


@pytest.mark.parametrize(
    "change, said",
    [
        ({"at_least": 5}, "at_least: must be at most the number of pairs, 4"),
        ({"reference": ["renyi"]}, "reference: must be others than `objectives`: renyi"),
        ({"objectives": ["renyi", "renyi"]}, "objectives: names something twice"),
        ({"task": "chess"}, "task: "),
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
        **{"measure": "final", "or_alike": False, "at_least": 1},
    }
    path = tmp_path / "claims.yaml"
    path.write_text(
        json.dumps({"a": {"claim": "c", "paper": "p", "source": "s", "scales": None, "test": test | change}})
    )
    with pytest.raises(UserError) as error:
        claims.load(path, evidence.KINDS)
    assert f"claims.yaml: a: test.{said}" in str(error.value)
