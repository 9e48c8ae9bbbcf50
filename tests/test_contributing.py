"""CONTRIBUTING.md, followed to the letter: each recipe is applied to a copy of the repository and run there."""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import REPOSITORY

from mlegfn.artifacts import read_json
from mlegfn.pipeline import engine, lockfile, share

PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text()
LINES_OF_A_SCREEN = 50  # of what is to be pasted

# How a step says what to do with the fenced block below it.
WRITE = re.compile(r"Write `([^`]+)`")
APPEND = re.compile(r"Append to `([^`]+)`")
INSERT = re.compile(r"In `([^`]+)`, (before|after) `([^`]+)`")
RUN = re.compile(r"Run:$")


class Step(NamedTuple):
    """What precedes a fenced block, the block's language, its text."""

    told: str
    language: str
    text: str


def recipe(title):
    """The steps of a section: every fenced block with the paragraph before it."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    blocks = re.findall(r"([^\n]+)\n\n```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert blocks and section.count("```") == 2 * len(blocks), "a block without a sentence before it"
    return [Step(*block) for block in blocks]


def apply(root, step):
    """Do what a step says to the files below ``root``; the path that it changed, None for commands."""
    if match := WRITE.search(step.told):
        path = root / match[1]
        assert not path.exists(), f"{match[1]} is there already"
        path.write_text(step.text)
    elif match := APPEND.search(step.told):
        path = root / match[1]
        path.write_text(path.read_text() + step.text)
    elif match := INSERT.search(step.told):
        path = root / match[1]
        lines = path.read_text().splitlines(keepends=True)
        (at,) = [i for i, line in enumerate(lines) if line.strip() == match[3]]
        lines.insert(at + (match[2] == "after"), step.text)
        path.write_text("".join(lines))
    else:
        assert RUN.search(step.told) and step.language == "sh", f"nobody can tell what to do: {step.told}"
        return None
    return path


def follow(checkout, title):
    """Apply a recipe and run its commands; what they print."""
    steps = recipe(title)
    changed = [path for step in steps if (path := apply(checkout.root, step))]
    for path in changed:
        if path.suffix == ".py":
            checkout.run("ruff", "check", path)
            checkout.run("ruff", "format", "--check", path)
    (commands,) = [step.text for step in steps if RUN.search(step.told)]
    return checkout.run("sh", "-ec", commands).stdout


@pytest.fixture(scope="module")
def contributed(snakemade, tmp_path_factory):
    """A checkout in which smoke has run, with every scale in params.yaml again, to follow recipes in, in order."""
    checkout = snakemade.duplicate(tmp_path_factory.mktemp("contributed") / "checkout")
    shutil.copy(REPOSITORY / "params.yaml", checkout.root)
    return checkout


def recorded(checkout):
    return set(lockfile.split((checkout.root / "dvc.lock").read_text()))


def test_every_recipe_fits_on_a_screen():
    titles = re.findall(r"^## (Add .*)$", PAGE, re.MULTILINE)
    assert titles == [f"Add a {what}" for what in ("stage", "model family", "scale", "claim")]
    for title in titles:
        pasted = [len(step.text.splitlines()) for step in recipe(title)]
        assert sum(pasted) <= LINES_OF_A_SCREEN, f"{title}: {pasted}"


def test_a_stage(contributed):
    shown = follow(contributed, "Add a stage")
    assert shown.count("Running stage") == 1 and "3 passed" in shown
    assert "terms@smoke" in recorded(contributed)
    table = (contributed.root / "results/smoke/tables/terms.md").read_text().splitlines()
    baseline = read_json(contributed.root / "results/smoke/metrics/nll/baseline-12.json")
    worst = max(range(9), key=lambda t: baseline["points"][0]["terms"][t])
    assert len(table) == 2 + 5 and table[2].startswith(f"| {worst} | ")


def test_a_model_family(contributed):
    shown = follow(contributed, "Add a model family")
    assert shown.count("Running stage") == 2 and int(re.search(r"(\d+) passed", shown)[1]) >= 13
    assert {"family@smoke-sde_subvp", "families@smoke"} <= recorded(contributed)
    for file in ("tables/table1.md", "tables/families.md", "report/families.md"):
        assert "Diffusion SDE, sub-VP" in (contributed.root / "results/smoke" / file).read_text()
    assert '"digits-sde_subvp"' in (contributed.root / "graph.json").read_text(), "`include: null` finds it"


def test_a_scale(contributed):
    shown = follow(contributed, "Add a scale")
    assert "mlegfn stage pretrain --scale digits-wide --step 300\n" in shown, "planned"
    assert "fetch@digits-wide" in recorded(contributed)
    dataset = read_json(contributed.root / "data/digits-wide/dataset.json")
    assert dataset["levels"] == 17


def test_a_claim(contributed):
    shown = follow(contributed, "Add a claim")
    assert "Fine-tuning on L_simple alone reaches lower test NLL" in shown
    verdicts = read_json(contributed.root / "results/smoke/report/verdict.json")["claims"]
    (new,) = [each for each in verdicts if each["id"] == "fine-tuning-alone"]
    low, high = new["interval"]
    assert low <= new["estimate"] <= high and new["seeds"] == 2
    assert new["verdict"] == ("reproduced" if high < 0 else "not reproduced")


def test_afterwards_there_is_nothing_to_do(contributed):
    shown = contributed.run("mlegfn", "reproduce", "--scale", "smoke").stdout
    assert "nothing to do" in shown and "results/smoke/tables/terms.md" in shown


def test_a_step_that_does_not_fit_the_files_is_found(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    for told in (
        "In `a.py`, after `x = 2`:",
        "In `a.py`, after `x = 1`:",
        "Write `a.py`:",
        "Look at `a.py`:",
    ):
        with pytest.raises((ValueError, AssertionError)):
            apply(tmp_path, Step(told, "python", "y\n"))


def test_deleting_a_scale_knows_every_folder_of_a_stage(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    folders = {
        Path(out).parts[2]
        for stage in engine.read().stages.values()
        for out in stage.outs
        if out.startswith("results/")
    }
    assert folders <= set(share.KINDS)
