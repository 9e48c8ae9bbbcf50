"""The stage ``family``: what it writes, and that a change costs only what depends on it."""

import json
from pathlib import Path

import pytest
from helpers.parts import prepare, run_stage, settings_of, with_value
from safetensors.torch import load_file

from mlegfn import families
from reproduction.families.settings import Families

SMOKE = settings_of(Families, "families")
TWO_SEEDS = with_value(SMOKE, ("seeds",), [0, 1])
FAMILY = "any_order"


def files(folder):
    """{path: bytes} of what the stage wrote for other stages."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("metrics", "samples")
        for path in (folder / part).iterdir()
    }


@pytest.fixture
def counted(monkeypatch):
    """What the family is asked to do: "checks", and the seeds that it is trained with."""
    asked, family = [], families.load(FAMILY)
    checks, fit = family.checks, family.fit
    monkeypatch.setattr(family, "checks", lambda settings: (asked.append("checks"), checks(settings))[1])
    monkeypatch.setattr(family, "fit", lambda settings, seed: (asked.append(seed), fit(settings, seed))[1])
    return asked


def test_a_seed_that_is_added_costs_that_seed(tmp_path, monkeypatch, counted):
    monkeypatch.chdir(prepare(tmp_path / "at once"))
    stage = run_stage("families.train", TWO_SEEDS, FAMILY)
    assert stage.name == f"family@smoke-{FAMILY}" and counted == ["checks", 0, 1]
    expected = files(Path("results/smoke/families"))
    assert set(expected) == {f"metrics/{FAMILY}.json", f"samples/{FAMILY}.safetensors"}
    metrics = json.loads(expected[f"metrics/{FAMILY}.json"])
    assert metrics["scale"] == "smoke" and metrics["family"] == FAMILY
    assert metrics["settings"] == SMOKE.settings[FAMILY].model_dump()
    assert [run["seed"] for run in metrics["runs"]] == [0, 1] and all(
        run["scores"] for run in metrics["runs"]
    )
    assert metrics["runs"][0]["scores"] != metrics["runs"][1]["scores"]
    panels = load_file(f"results/smoke/families/samples/{FAMILY}.safetensors")
    assert set(panels) == {f"panel-{k}" for k in range(len(metrics["panels"]))}

    monkeypatch.chdir(prepare(tmp_path / "one after the other"))
    run_stage("families.train", SMOKE, FAMILY)
    counted.clear()
    run_stage("families.train", TWO_SEEDS, FAMILY)
    assert counted == [1] and files(Path("results/smoke/families")) == expected
    counted.clear()
    run_stage("families.train", TWO_SEEDS, FAMILY)
    assert not counted and files(Path("results/smoke/families")) == expected

    own = with_value(TWO_SEEDS, ("settings", FAMILY, "steps"), SMOKE.settings[FAMILY].steps + 1)
    run_stage("families.train", own, FAMILY)
    assert counted == ["checks", 0, 1] and files(Path("results/smoke/families")) != expected
    counted.clear()
    others = with_value(own, ("settings", "ddpm", "steps"), 9)
    run_stage("families.train", others, FAMILY)
    assert not counted
