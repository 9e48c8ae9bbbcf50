"""The divergences' tables and figures follow the metrics, and nothing else."""

import json

import numpy as np
import pytest
from helpers import synthetic_divergences as synthetic
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.divergences import report
from reproduction.divergences.report import evidence, ranking, tables
from reproduction.divergences.report.metrics import OBJECTIVES, VARIATES, Metrics
from reproduction.drawing import style
from reproduction.verdicts import claims

FOUR = ("reverse_kl", "forward_kl", "renyi", "tsallis")
PICTURES = ("curves", "variance", "banana", "mixture", "alpha")


def claimed():
    return claims.load(REPOSITORY / "claims/divergences.yaml", evidence.KINDS)


def measured(folder, name="divergences", **how):
    """The metrics of synthetic files; settings by their names, what to write by the writer's."""
    return Metrics(name, synthetic.write_some(folder, name, **how), folder)


def test_the_area_is_the_mean_over_training(tmp_path):
    metrics = measured(tmp_path, tasks=["sets"], gradients=())
    for run in metrics.runs("sets", "renyi"):
        run["curve"] = {"step": [0, 10, 100], "value": [1.0, 0.5, 0.5]}
    assert metrics.values("sets", "renyi", "area") == pytest.approx([0.525] * 3)
    assert metrics.values("sets", "renyi") == pytest.approx([0.1] * 3, rel=0.05)  # five times the spread


def test_the_table_has_the_floor_in_every_row_and_bold_only_what_is_apart(tmp_path):
    metrics = measured(tmp_path, final={("sets", "tsallis"): 0.05, ("banana", "renyi"): 0.09999})
    frame = tables.table(metrics)
    assert len(frame) == sum(len(own.objectives) for own in metrics.task_settings.values())
    assert (frame["floor"] == 0.05).all() and (frame["floor_samples"] == 10_000).all()
    best = frame[frame["best"]]
    assert list(zip(best["task"], best["objective"])) == [
        ("sets", "Tsallis-α")
    ]  # the banana's is within the noise
    text = tables.markdown(frame)
    lines = text.splitlines()[2:]
    assert all("0.0500, n = 10,000" in line for line in lines) and text.count("**") == 2
    sets = frame[frame["task"] == "sets"].set_index("objective")
    assert sets["sampled"].isna().all() and sets.loc["TB", "paper"] == "0.07 ± 0.00"
    runs = metrics.runs("sets", "tsallis")
    assert sets.loc["Tsallis-α", "exact"] == np.mean([run["final"]["exact"] for run in runs])


def test_the_ranking_ranks(tmp_path):
    final = {(task, "renyi"): 0.05 for task in synthetic.TASKS} | {("sets", "flow_matching"): 0.05}
    frame = ranking.table(measured(tmp_path, final=final, gradients=()))
    assert list(frame["objective"][:2]) == ["Rényi-α", "FM"] and frame["sets"][0].endswith("†")
    assert list(frame["as good as the best"][:3]) == ["6 of 6", "1 of 4", "0 of 6"]
    assert frame["banana"][1] == "" and 1.9 < float(frame["banana"][2]) < 2.1
    assert frame["hypergrid"].iloc[-1] == "1.00" or 0.97 < float(frame["hypergrid"].iloc[-1]) < 1.03


@pytest.mark.parametrize("variate", list(VARIATES))
def test_a_bias_is_told_beside_the_trace(tmp_path, variate):
    metrics = measured(tmp_path, tasks=["sets"], gradients=["sets"])
    rows = [row for row in metrics.gradients["sets"]["rows"] if row["control_variate"] == variate]
    assert {len(row) for row in rows} == {8}
    frame = tables.gradients(metrics)
    assert (frame[frame["control_variate"] == variate]["trace_over_none"] == 1).all()


def test_all_files_equal_bytes_and_nothing_typed_in(tmp_path, monkeypatch):
    few = ("trajectory_balance", *FOUR, "f_tsallis")
    chosen = synthetic.settings(tasks=["sets", "banana"], gradients=["sets"], objectives=few)
    synthetic.write(tmp_path, chosen)
    first = report.files(Metrics("divergences", chosen, tmp_path), claimed())
    monkeypatch.setattr(style, "FORMATS", ("svg",))  # the slowest two are tested once
    second = report.files(Metrics("divergences", chosen, tmp_path), claimed())
    assert second == {path: first[path] for path in second}
    page = first["report/objectives.md"]
    for link in ("figures/curves.png", "tables/divergences.md", "report/verdict.md"):
        assert f"(../{link})" in page and link in first
    assert json.loads(first["report/verdict.json"])["scale"] == "divergences"
    assert all(first[f"figures/{name}.png"][:4] == b"\x89PNG" for name in PICTURES)
    small = synthetic.settings(tasks=["sets"], gradients=["sets"], objectives=few)
    third = report.files(Metrics("divergences", small, tmp_path), claimed())
    assert set(third) == set(second)
    assert "not measured at the scale" in third["figures/banana.md"]
    file = tmp_path / "divergences" / "divergences" / "metrics" / "tasks" / "sets.json"
    value = json.loads(file.read_text())
    value["runs"][0]["final"]["exact"] *= 2
    file.write_text(json.dumps(value))
    metrics = Metrics("divergences", chosen, tmp_path)
    changed = ranking.page(metrics, {})
    assert changed.split("†: ")[0] != page.split("†: ")[0]
    assert tables.markdown(tables.table(metrics)) not in first["tables/divergences.md"]


@pytest.mark.parametrize(
    "file, stage",
    [
        ("metrics/tasks/sets.json", "divergence@divergences-sets"),
        ("metrics/gradients/sets.json", "gradients@divergences"),
        ("metrics/alpha.json", "alpha@divergences"),
        ("densities/alpha.safetensors", "alpha@divergences"),
        ("densities/banana.safetensors", "divergence@divergences-banana"),
    ],
)
def test_a_missing_or_misfitting_file_names_its_stage(tmp_path, file, stage):
    chosen = synthetic.settings(tasks=["sets", "banana"], gradients=["sets"])
    synthetic.write(tmp_path, chosen)
    path = tmp_path / "divergences" / "divergences" / file

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
