"""Table 1, the families' figure and page, from metrics that are made up here."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.parts import prepare, run_stage
from safetensors.numpy import save_file

from mlegfn.errors import UserError
from reproduction.families.report import metrics, tables
from reproduction.families.settings import Families

OWN = {
    "steps": 1,
    "batch": 1,
    "lr": 0.1,
    "hidden": 1,
    "timesteps": 2,
    "train_points": 1,
    "test_points": 2,
    "trajectories": 2,
}
NAMES = ["hvae", "autoregressive"]
SETTINGS = Families(seeds=[0, 1], settings=dict.fromkeys(NAMES, OWN))


def family(name, order, disagreement=1e-12):
    check = {"what": f"a | b of {name}", "disagreement": disagreement, "tolerance": 1e-9, "unit": "nats"}
    return {
        "family": name,
        "title": name.upper(),
        "order": order,
        "policies": ["forward", "backward"],
        "deterministic": "P_B",
        "objective": "KL-TB",
        "data": "points",
        "about": f"What {name} is.",
        "checks": [
            {**check, "proposition": 2, "passed": disagreement <= 1e-9},
            {**check, "proposition": None, "disagreement": 0.0, "passed": True},
        ],
        "runs": [{"seed": 0, "scores": {"NLL, nats": 1.0}}, {"seed": 1, "scores": {"NLL, nats": 3.0}}],
        "panels": [
            {"title": "data", "kind": "points", "labels": ["", ""]},
            {"title": "sheet", "kind": "images", "labels": ["", ""]},
            {"title": "slope", "kind": "curve", "labels": ["h", "difference"]},
        ],
    }


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder ``results`` of a working directory, with the metrics and panels of two families."""
    monkeypatch.chdir(prepare(tmp_path / "folder"))
    rng, folder = np.random.default_rng(0), Path("results/s/families")
    for name in ("metrics", "samples"):
        (folder / name).mkdir(parents=True)
    for value in (family("hvae", 20, 1e-3), family("autoregressive", 10)):
        (folder / "metrics" / f"{value['family']}.json").write_text(json.dumps(value))
        tensors = {
            "panel-0": rng.normal(size=(50, 2)).astype("float32"),
            "panel-1": rng.random((5, 4, 4)).astype("float32"),
            "panel-2": np.array([[1, 2], [10, 20]], dtype="float32"),
        }
        save_file(tensors, folder / "samples" / f"{value['family']}.safetensors")
    return Path("results")


def read(root):
    return metrics.read("s", SETTINGS, NAMES, root)


def test_table1_has_a_row_for_every_check_in_order(root):
    table = tables.table1(read(root))
    assert list(table["family"]) == ["AUTOREGRESSIVE"] * 2 + ["HVAE"] * 2
    assert list(table["passed"]) == [True, True, False, True]
    assert table["disagreement"].tolist() == [1e-12, 0.0, 1e-3, 0.0]


def test_markdown_marks_what_failed_and_escapes(root):
    text = tables.table1_markdown(read(root))
    assert text.count("✗") == 1 and "a \\| b of hvae (Proposition 2)" in text
    assert "3 of 4" in tables.table1_caption("s", read(root))
    assert "1 of 2" in tables.summary_markdown(read(root))


def test_scores_are_means_over_seeds(root):
    scores = tables.score_table(read(root))
    assert scores["mean"].tolist() == [2.0, 2.0]
    assert scores["standard_deviation"].tolist() == pytest.approx([2**0.5] * 2)


def test_everything_is_made_and_equal_bytes(root):
    written, folder = [], root / "s/families"
    for _ in range(2):
        stage = run_stage("families.report", SETTINGS, items=NAMES, scale="s")
        written.append(
            {
                str(path.relative_to(folder)): path.read_bytes()
                for part in ("tables", "figures", "report")
                for path in (folder / part).iterdir()
            }
        )
    assert stage.name == "families_report@s" and written[0] == written[1]
    assert set(written[0]) == {
        *(f"tables/{name}.{ending}" for name in ("table1", "families") for ending in ("csv", "md")),
        *(f"figures/families.{ending}" for ending in ("md", "pdf", "svg", "png")),
        "report/families.md",
    }
    page = written[0]["report/families.md"].decode()
    assert "What hvae is." in page and page.index("## AUTOREGRESSIVE") < page.index("## HVAE")


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda path: path.write_text('{"title": "x"}'), "has no 'order'"),
        (lambda path: path.write_text(json.dumps({**family("hvae", 1), "runs": []})), "other seeds"),
        (lambda path: path.unlink(), "run `dvc repro family@s-hvae`"),
    ],
)
def test_bad_metrics_say_what_makes_them(root, spoil, said):
    spoil(root / "s/families/metrics/hvae.json")
    with pytest.raises(UserError, match=said.replace("`", ".")) as error:
        read(root)
    assert "dvc repro family@s-hvae" in str(error.value)


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (3.21e-11, "3.2e−11"), (0.0123456, "0.0123"), (-12.0, "−12"), (2.5e7, "2.5e7")],
)
def test_numbers_are_short(value, text):
    assert tables.scientific(value) == text
