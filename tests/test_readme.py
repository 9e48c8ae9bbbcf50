"""README says what the committed results say."""

import re
from pathlib import Path

import pytest

from mlegfn.report.readme import updated

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_verdict_table_is_the_computed_one():
    verdict = (ROOT / "results/digits/report/verdict.md").read_text()
    assert updated(README, verdict) == README, "run: .venv/bin/python -m mlegfn.report.readme"


def test_a_changed_verdict_would_be_seen():
    verdict = (ROOT / "results/digits/report/verdict.md").read_text()
    other = verdict.replace("not reproduced", "REPRODUCED").replace("**reproduced**", "**NOT**")
    assert updated(README, other) != README
    with pytest.raises(ValueError, match="markers"):
        updated("no markers", verdict)


def test_every_file_that_readme_and_docs_link_to_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
