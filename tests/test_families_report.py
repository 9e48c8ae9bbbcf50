"""Table 1, the families' figure and page, from metrics that are made up here."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlegfn.config import Families
from mlegfn.errors import UserError
from mlegfn.report import families

SETTINGS = Families(
    include=["hvae", "autoregressive"],
    seeds=[0, 1],
    default={
        "steps": 1,
        "batch": 1,
        "lr": 0.1,
        "hidden": 1,
        "timesteps": 2,
        "train_points": 1,
        "test_points": 2,
        "trajectories": 2,
    },
    settings={},
)


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
def root(tmp_path):
    rng = np.random.default_rng(0)
    for value in (family("hvae", 20, 1e-3), family("autoregressive", 10)):
        metrics = tmp_path / "s" / "metrics" / "families"
        metrics.mkdir(parents=True, exist_ok=True)
        (metrics / f"{value['family']}.json").write_text(json.dumps(value))
        tensors = {
            "panel-0": rng.normal(size=(50, 2)).astype("float32"),
            "panel-1": rng.random((5, 4, 4)).astype("float32"),
            "panel-2": np.array([[1, 2], [10, 20]], dtype="float32"),
        }
        folder = tmp_path / "s" / "families"
        folder.mkdir(exist_ok=True)
        save_file(tensors, folder / f"{value['family']}.safetensors")
    return tmp_path


def test_table1_has_a_row_for_every_check_in_order(root):
    table = families.table1(families.read("s", SETTINGS, root))
    assert list(table["family"]) == ["AUTOREGRESSIVE"] * 2 + ["HVAE"] * 2
    assert list(table["passed"]) == [True, True, False, True]
    assert table["disagreement"].tolist() == [1e-12, 0.0, 1e-3, 0.0]


def test_markdown_marks_what_failed_and_escapes(root):
    text = families.table1_markdown(families.read("s", SETTINGS, root))
    assert text.count("✗") == 1 and "a \\| b of hvae (Proposition 2)" in text
    assert "3 of 4" in families.table1_caption("s", families.read("s", SETTINGS, root))
    assert "1 of 2" in families.summary_markdown(families.read("s", SETTINGS, root))


def test_scores_are_means_over_seeds(root):
    scores = families.score_table(families.read("s", SETTINGS, root))
    assert scores["mean"].tolist() == [2.0, 2.0]
    assert scores["standard_deviation"].tolist() == pytest.approx([2**0.5] * 2)


def test_everything_is_made_and_equal_bytes(root):
    first, second = (families.make("s", SETTINGS, root) for _ in range(2))
    assert first == second
    assert set(first["figures"]) == {"families.pdf", "families.svg", "families.png", "families.md"}
    assert "What hvae is." in first["report"]["families.md"]


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda path: path.unlink(), "run `dvc repro family@s-hvae`"),
        (lambda path: path.write_text('{"title": "x"}'), "has no 'order'"),
        (
            lambda path: path.write_text(json.dumps({**family("hvae", 1), "runs": []})),
            "other seeds",
        ),
    ],
)
def test_bad_metrics_say_what_makes_them(root, spoil, said):
    spoil(root / "s" / "metrics" / "families" / "hvae.json")
    with pytest.raises(UserError, match=said.replace("`", ".")):
        families.make("s", SETTINGS, root)


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (3.21e-11, "3.2e−11"), (0.0123456, "0.0123"), (-12.0, "−12"), (2.5e7, "2.5e7")],
)
def test_numbers_are_short(value, text):
    assert families.scientific(value) == text
