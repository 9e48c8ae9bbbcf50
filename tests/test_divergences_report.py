"""The divergences' tables, figures, verdicts and docs page follow the metrics, and nothing else."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import synthetic_divergences as synthetic

from mlegfn.errors import UserError
from mlegfn.report import claims, divergence_ranking, divergence_table, divergences, style, verdict
from mlegfn.report.divergence_metrics import OBJECTIVES, VARIATES, Metrics

ROOT = Path(__file__).parents[1]
FOUR = ("reverse_kl", "forward_kl", "renyi", "tsallis")
REPRODUCED, NOT, UNTESTED = "reproduced", "not reproduced", "not tested at this scale"


def mine():
    return claims.load(ROOT / "claims.yaml", report="divergences")


def measured(folder, name="divergences", **how):
    """The metrics of synthetic files; settings by their names, what to write by the writer's."""
    chosen = synthetic.settings(
        **{key: how.pop(key) for key in ("tasks", "seeds", "objectives", "gradients", "alpha") if key in how}
    )
    synthetic.write(folder, chosen, name=name, **how)
    return Metrics(name, chosen, folder)


def decided(folder, **how):
    return {row["id"]: row for row in verdict.decide(measured(folder, **how), mine())["claims"]}


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
    assert len(good) == len(mine())
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
    assert set(divergence_ranking.table(alone)["as good as the best"][:-2]) == {"one seed: not judged"}
    assert not divergence_table.table(alone)["best"].any()
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
    claim = next(claim for claim in mine() if claim.id == "divergences-sets")
    claim = claim._replace(test=claim.test.model_copy(update={"at_least": at_least}))
    (row,) = verdict.decide(metrics, [claim])["claims"]
    assert row["verdict"] == expected
    assert len(row["parts"]) == {1: 1, 2: 2, 3: 2, 4: 3}[at_least]  # no more than are asked for


def test_pairs_that_are_equal_seem_apart_as_often_as_they_may(tmp_path):
    """Five equal objectives, three seeds: 5 of 100 claims in expectation at most, and 36 with intervals at 95 % each.

    Of 60 draws: more than 9 have probability 7e-4 at a rate of 0.05, and fewer than 10 have 2e-4 at 0.36.
    """
    metrics, rng = measured(tmp_path, tasks=["phylogeny"], gradients=()), np.random.default_rng(0)
    claim = next(claim for claim in mine() if claim.id == "divergences-phylogeny")
    names, each, together = claim.test.objectives, 0, 0
    for _ in range(60):
        for run in metrics.tasks["phylogeny"]["runs"]:
            run["final"]["exact"] = 0.2 + 0.01 * rng.normal()
        (row,) = verdict.decide(metrics, [claim])["claims"]
        together += row["verdict"] == NOT
        each += any(
            metrics.difference("phylogeny", *pair).outcome != "indistinguishable"
            for pair in combinations(names, 2)
        )
    assert together < 10 <= each


def test_the_area_is_the_mean_over_training(tmp_path):
    metrics = measured(tmp_path, tasks=["sets"], gradients=())
    for run in metrics.runs("sets", "renyi"):
        run["curve"] = {"step": [0, 10, 100], "value": [1.0, 0.5, 0.5]}
    assert metrics.values("sets", "renyi", "area") == pytest.approx([0.525] * 3)
    assert metrics.values("sets", "renyi") == pytest.approx([0.1] * 3, rel=0.05)  # five times the spread


def test_the_table_has_the_floor_in_every_row_and_bold_only_what_is_apart(tmp_path):
    metrics = measured(tmp_path, final={("sets", "tsallis"): 0.05, ("banana", "renyi"): 0.09999})
    frame = divergence_table.table(metrics)
    assert len(frame) == sum(len(own.objectives) for own in metrics.settings.tasks.values())
    assert (frame["floor"] == 0.05).all() and (frame["floor_samples"] == 10_000).all()
    best = frame[frame["best"]]
    assert list(zip(best["task"], best["objective"])) == [
        ("sets", "Tsallis-α")
    ]  # the banana's is within the noise
    text = divergence_table.markdown(frame)
    lines = text.splitlines()[2:]
    assert all("0.0500, n = 10,000" in line for line in lines) and text.count("**") == 2
    sets = frame[frame["task"] == "sets"].set_index("objective")
    assert sets["sampled"].isna().all() and sets.loc["TB", "paper"] == "0.07 ± 0.00"
    runs = metrics.runs("sets", "tsallis")
    assert sets.loc["Tsallis-α", "exact"] == np.mean([run["final"]["exact"] for run in runs])


def test_the_ranking_ranks(tmp_path):
    final = {(task, "renyi"): 0.05 for task in synthetic.TASKS} | {("sets", "flow_matching"): 0.05}
    frame = divergence_ranking.table(measured(tmp_path, final=final, gradients=()))
    assert list(frame["objective"][:2]) == ["Rényi-α", "FM"] and frame["sets"][0].endswith("†")
    assert list(frame["as good as the best"][:3]) == ["6 of 6", "1 of 4", "0 of 6"]
    assert frame["banana"][1] == "" and 1.9 < float(frame["banana"][2]) < 2.1
    assert frame["hypergrid"].iloc[-1] == "1.00" or 0.97 < float(frame["hypergrid"].iloc[-1]) < 1.03


@pytest.mark.parametrize("variate", list(VARIATES))
def test_a_bias_is_told_beside_the_trace(tmp_path, variate):
    metrics = measured(tmp_path, tasks=["sets"], gradients=["sets"])
    rows = [row for row in metrics.gradients["sets"]["rows"] if row["control_variate"] == variate]
    assert {len(row) for row in rows} == {7}
    frame = divergence_table.gradients(metrics)
    assert (frame[frame["control_variate"] == variate]["trace_over_none"] == 1).all()


def test_all_files_equal_bytes_and_nothing_typed_in(tmp_path, monkeypatch):
    few = ("trajectory_balance", *FOUR, "f_tsallis")
    chosen = synthetic.settings(tasks=["sets", "banana"], gradients=["sets"], objectives=few)
    synthetic.write(tmp_path, chosen)
    first = divergences.make("divergences", chosen, mine(), tmp_path)
    monkeypatch.setattr(style, "FORMATS", ("svg",))  # the slowest two are tested once
    second = divergences.make("divergences", chosen, mine(), tmp_path)
    assert second == {
        folder: {name: first[folder][name] for name in files} for folder, files in second.items()
    }
    page = first["report"]["divergences-objectives.md"]
    for link in ("../figures/divergences-curves.png", "../tables/divergences.md"):
        folder, file = link.split("/")[1:]
        assert link in page and file in first[folder]
    assert json.loads(first["report"]["divergences.json"])["scale"] == "divergences"
    assert all(first["figures"][f"divergences-{each}.png"][:4] == b"\x89PNG" for each in PICTURES)
    small = synthetic.settings(tasks=["sets"], gradients=(), alpha=False, objectives=few)
    third = divergences.make("divergences", small, mine(), tmp_path)
    assert {folder: set(files) for folder, files in third.items()} == {
        folder: set(files) for folder, files in second.items()
    }
    for each in ("alpha", "banana", "variance"):
        assert "not measured at the scale" in third["figures"][f"divergences-{each}.md"]
    file = tmp_path / "divergences" / "metrics" / "divergences" / "sets.json"
    value = json.loads(file.read_text())
    value["runs"][0]["final"]["exact"] *= 2
    file.write_text(json.dumps(value))
    metrics = Metrics("divergences", chosen, tmp_path)
    changed = divergence_ranking.page(metrics, {})
    assert changed.split("†: ")[0] != page.split("†: ")[0]
    assert divergence_table.markdown(divergence_table.table(metrics)) not in first["tables"]["divergences.md"]


PICTURES = ("curves", "variance", "banana", "mixture", "alpha")


@pytest.mark.parametrize(
    "file, stage",
    [
        ("metrics/divergences/sets.json", "divergence@divergences-sets"),
        ("metrics/gradients/sets.json", "gradients@divergences-sets"),
        ("metrics/alpha.json", "alpha@divergences"),
        ("divergences/alpha.safetensors", "alpha@divergences"),
        ("divergences/banana.safetensors", "divergence@divergences-banana"),
    ],
)
def test_a_missing_or_misfitting_file_names_its_stage(tmp_path, file, stage):
    chosen = synthetic.settings(tasks=["sets", "banana"], gradients=["sets"])
    synthetic.write(tmp_path, chosen)
    path = tmp_path / "divergences" / file

    def read():
        metrics = Metrics("divergences", chosen, tmp_path)
        return metrics.alpha_densities(), metrics.densities("banana")

    read()
    path.unlink()
    with pytest.raises(UserError, match=f"not found; the stage {stage} makes it"):
        read()
    path.write_text("{}")
    with pytest.raises(UserError, match=f"delete it and run `dvc repro {stage}`"):
        read()


def test_a_run_that_is_missing_names_its_stage(tmp_path):
    synthetic.write(tmp_path, synthetic.settings(tasks=["sets"], gradients=(), seeds=(0, 1)))
    with pytest.raises(
        UserError, match="no run of trajectory_balance with seed 2; run `dvc repro divergence@"
    ):
        Metrics("divergences", synthetic.settings(tasks=["sets"], gradients=(), seeds=(0, 1, 2)), tmp_path)


def test_the_objectives_are_those_of_the_code():
    from mlegfn.gflownet.losses import OBJECTIVES as CODE

    for name, code in CODE.items():
        about = OBJECTIVES[name]
        assert (about.title, about.log_z, about.flows, about.on_policy) == (
            code.title,
            code.log_z,
            code.flows,
            code.on_policy,
        )
    from mlegfn.objectives.control_variates import CONTROL_VARIATES

    assert set(CONTROL_VARIATES) <= set(VARIATES)


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
        claims.load(path)
    assert f"claims.yaml: a: test.{said}" in str(error.value)
