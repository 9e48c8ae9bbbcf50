"""README and docs say what the committed results say."""

import re
import runpy
from pathlib import Path

import pytest

from mlegfn.report.readme import OBJECTIVES, documents, objectives, tables, updated

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_what_is_computed_is_the_computed():
    for path, parts in documents(ROOT).items():
        text = (ROOT / path).read_text()
        assert updated(text, **parts) == text, f"{path}: run .venv/bin/python -m mlegfn.report.readme"


def test_the_recipe_s_tables_are_those_of_the_searches():
    tables = runpy.run_path(str(ROOT / "benchmarks" / "recipe_tables.py"))
    page = (ROOT / "docs/recipe.md").read_text()
    for name in ("digits", "planar", "alignment"):
        made = f"<!-- {name}:begin -->\n\n{tables[name]()}\n\n<!-- {name}:end -->"
        assert made in page, "docs/recipe.md: run .venv/bin/python benchmarks/recipe_tables.py"


def test_the_ranking_of_objectives_comes_from_its_file(tmp_path):
    assert "no results here" in objectives(tmp_path)
    file = tmp_path / OBJECTIVES
    file.parent.mkdir(parents=True)
    file.write_text("Ranked.\n\n![curves](../figures/a.png)\n")
    assert objectives(tmp_path) == "Ranked.\n\n![curves](../results/divergences/figures/a.png)"
    page = (ROOT / "docs/objectives.md").read_text()
    assert "Ranked." in updated(page, objectives=objectives(tmp_path)) != page


def test_a_changed_verdict_would_be_seen():
    found = tables(ROOT)
    for name, old, new in (("verdict", "not reproduced", "REPRODUCED"), ("families", "P_B is", "P_B is not")):
        assert updated(README, **{name: found[name].replace(old, new)}) != README
    with pytest.raises(ValueError, match="markers"):
        updated("no markers", **found)


def test_every_file_that_readme_and_docs_link_to_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
