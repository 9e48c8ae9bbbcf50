"""README says what the committed results say."""

import re
from pathlib import Path

import pytest

from mlegfn.report.readme import tables, updated

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_tables_are_the_computed_ones():
    assert updated(README, **tables(ROOT)) == README, "run: .venv/bin/python -m mlegfn.report.readme"


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
