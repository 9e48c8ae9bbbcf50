"""CONTRIBUTING.md, followed to the letter: each recipe is applied to a copy of the repository, and its commands run."""

import re
import shutil
from typing import NamedTuple

import pytest
import yaml
from helpers import synthetic_images
from helpers.repository import REPOSITORY
from helpers.toy import Toy

from mlegfn.artifacts import read_json
from reproduction import arguments
from reproduction.images.report.evidence import KINDS, TESTS
from reproduction.verdicts import claims, verdict

PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text()
LINES_OF_A_SCREEN = 60  # of what is to be pasted
FILES = 2  # that a recipe may touch beside the new one
RECIPES = [f"Add a {what}" for what in ("claim", "scale", "stage", "model family", "data source")]
COPIED = ("src", "claims", "tests/conftest.py", "tests/helpers", "tests/mlegfn/families", "pyproject.toml")
SETTINGS = (
    "params.yaml",
    "params",
    "dvc.yaml",
    "requirements.in",
    "requirements.lock",
    ".dvcignore",
    ".gitignore",
)

# How a step says what to do, in most cases with the fenced block below it.
WRITE = re.compile(r"Write `([^`]+)`")
APPEND = re.compile(r"Append to `([^`]+)`")
INSERT = re.compile(r"In `([^`]+)`, (before|after) `([^`]+)`")
LIST = re.compile(r"In `([^`]+)`, add `([^`]+)` to the list `([^`]+)`")


class Step(NamedTuple):
    """A line of text, and the fenced block below it: its language and text, or None for both."""

    told: str
    language: str | None
    text: str | None


def section(title):
    """The text of a section."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def recipe(title):
    """The steps of a section: every fenced block with the line before it, and every entry of a list to be added."""
    text = section(title)
    pattern = r"^([^\n]+)\n\n```(\w+)\n(.*?)^```$|^([^\n]*add `[^\n]+to the list[^\n]+)$"
    steps = []
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        steps.append(Step(match[4], None, None) if match[4] else Step(*match.groups()[:3]))
    blocks = [step for step in steps if step.language]
    assert blocks and text.count("```") == 2 * len(blocks), "a block without a sentence before it"
    return steps


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
    elif match := LIST.search(step.told):
        path = root / match[1]
        text, count = re.subn(rf"({re.escape(match[3])}(?:: )?\[)", rf"\g<1>{match[2]}, ", path.read_text())
        assert count == 1, f"{match[1]}: {count} lists {match[3]}"
        path.write_text(text)
    else:
        assert step.told == "Run:" and step.language == "sh", f"nobody can tell what to do: {step.told}"
        return None
    return path


def follow(checkout, title):
    """Apply a recipe and run its commands; what they print."""
    before, steps = set(checkout.root.rglob("*")), recipe(title)
    changed = {path for step in steps if (path := apply(checkout.root, step))}
    touched = changed & before
    assert len(touched) <= FILES and len(changed - touched) <= 1, f"{title} touches {sorted(touched)}"
    for path in changed:
        if path.suffix == ".py":
            checkout.run("ruff", "check", path)
            checkout.run("ruff", "format", "--check", path)
    return "".join(checkout.run("sh", "-ec", step.text).stdout for step in steps if step.told == "Run:")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what the recipes touch and run, in which no stage has run."""
    checkout = Toy(tmp_path_factory.mktemp("contributed") / "checkout")
    for name in (*COPIED, *SETTINGS):
        source, target = REPOSITORY / name, checkout.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, target)
    checkout.run("git", "init", "--quiet")
    checkout.run("dvc", "init", "--quiet")
    checkout.run("dvc", "config", "core.analytics", "false")
    return checkout


def recorded(checkout):
    return set(yaml.safe_load((checkout.root / "dvc.lock").read_text())["stages"])


def test_every_recipe_fits_on_a_screen():
    titles = re.findall(r"^## (Add .*)$", PAGE, re.MULTILINE)
    assert titles == RECIPES
    for title in titles:
        pasted = [len(step.text.splitlines()) for step in recipe(title) if step.text]
        assert sum(pasted) <= LINES_OF_A_SCREEN, f"{title}: {pasted}"


def test_a_claim_gets_a_verdict(checkout, tmp_path):
    follow(checkout, "Add a claim")
    decided = claims.load(checkout.root / "claims/images.yaml", KINDS)
    metrics = synthetic_images.write(synthetic_images.settings(), tmp_path, fall=0.5)
    (new,) = [
        row for row in verdict.decide(metrics, decided, TESTS)["claims"] if row["id"] == "fine-tuning-alone"
    ]
    low, high = new["interval"]
    assert low <= new["estimate"] <= high < 0 and new["verdict"] == "reproduced", (
        "metrics made so that it holds"
    )


def test_a_scale_has_its_stages(checkout):
    shown = follow(checkout, "Add a scale")
    assert "digits_wide: can run" in shown
    for stage in ("pretrain@digits_wide", "finetune@digits_wide-simple_tbc", "images_report@digits_wide"):
        assert f"stale   {stage} " in shown
    assert "fetch@digits_wide" in recorded(checkout)
    assert read_json(checkout.root / "data/digits_wide/dataset.json")["train"] == 1437


def test_a_stage_runs(checkout):
    shown = follow(checkout, "Add a stage")
    assert {"fetch@smoke", "levels@smoke"} <= recorded(checkout)
    assert "mlegfn stage images.levels smoke" in shown
    counts = read_json(checkout.root / "results/smoke/images/levels/levels.json")
    assert len(counts) == 17 and sum(counts) == 64 * 8 * 8


def test_a_family_is_tested_and_trained(checkout):
    shown = follow(checkout, "Add a model family")
    assert int(re.search(r"(\d+) passed", shown)[1]) >= 13
    assert "family@smoke-sde_subvp" in recorded(checkout)
    metrics = read_json(checkout.root / "results/smoke/families/metrics/sde_subvp.json")
    assert metrics["title"] == "Diffusion SDE, sub-VP" and all(check["passed"] for check in metrics["checks"])


def test_a_data_source_is_fetched(checkout):
    follow(checkout, "Add a data source")
    apply(checkout.root, Step("In `params.yaml`, add `bars` to the list `image_scales`.", None, None))
    text = (checkout.root / "params.yaml").read_text()
    block = re.search(r"^  digits_wide:\n.*?^\n", text, re.MULTILINE | re.DOTALL)[0]
    bars = block.replace("digits_wide:", "bars:").replace("source: digits", "source: bars")
    runs = re.search(r"(?:^  digits_wide-\w+: .*\n)+", text, re.MULTILINE)[0]
    text = text.replace(runs, runs + runs.replace("digits_wide", "bars"))
    (checkout.root / "params.yaml").write_text(text.replace(block, block + bars))
    checkout.run("dvc", "repro", "--quiet", "fetch@bars")
    record = read_json(checkout.root / "data/bars/dataset.json")
    assert record["train"] == 1024 and record["shape"] == [1, 8, 8] and record["classes"] == 16


def test_every_command_on_the_page_exists():
    (subcommands,) = [action for action in arguments.parser()._actions if action.dest == "command"]
    named = {
        word
        for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
        for word in re.findall(r"mlegfn (\w[\w-]*)", block)
    }
    assert named and named <= set(subcommands.choices)
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)", PAGE)) <= targets


def test_every_path_on_the_page_exists():
    for path in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (REPOSITORY / path).exists(), path
    new = {match[1] for title in RECIPES for step in recipe(title) if (match := WRITE.search(step.told))}
    for path in re.findall(r"\b(?:src|tests|claims|docs)/[\w./-]*\w", PAGE):
        assert (REPOSITORY / path).exists() or path in new, path


def test_a_step_that_does_not_fit_the_files_is_noticed(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    for told in (
        "In `a.py`, after `x = 2`:",
        "In `a.py`, after `x = 1`:",
        "In `a.py`, add `1` to the list `y`.",
        "Write `a.py`:",
        "Look at `a.py`:",
    ):
        with pytest.raises((ValueError, AssertionError)):
            apply(tmp_path, Step(told, "python", "y\n"))
