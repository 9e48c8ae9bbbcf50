"""README and docs quote what the committed results say."""

import json
import re
from pathlib import Path

import pytest

from mlegfn.errors import UserError
from reproduction.site import quotations, readme

ROOT = Path(__file__).resolve().parents[3]


def test_the_documents_are_up_to_date():
    assert list(readme.outdated(ROOT)) == [], "run `python -m reproduction.site.readme`"


def test_a_quotation_is_replaced_in_a_line_and_around_lines(monkeypatch):
    monkeypatch.setitem(quotations.QUOTATIONS, "number", lambda root: f"{root.name} 2.5")
    for before, after in (
        (
            "a <!-- number:begin -->1<!-- number:end --> b",
            "a <!-- number:begin -->x 2.5<!-- number:end --> b",
        ),
        ("<!-- number:begin --><!-- number:end -->", "<!-- number:begin -->x 2.5<!-- number:end -->"),
        (
            "<!-- number:begin -->\n1\n2\n<!-- number:end -->",
            "<!-- number:begin -->\nx 2.5\n<!-- number:end -->",
        ),
        ("<!-- number:begin -->\n<!-- number:end -->", "<!-- number:begin -->\nx 2.5\n<!-- number:end -->"),
    ):
        assert readme.updated(before, "x") == after and readme.updated(after, "x") == after


@pytest.mark.parametrize(
    "text",
    [
        "<!-- verdict:begin -->",
        "<!-- verdict:end --> <!-- verdict:begin -->",
        "<!-- nothing:begin --><!-- nothing:end -->",
        "<!-- verdict:begin --><!-- families:end -->",
    ],
)
def test_a_marker_that_is_wrong_is_named(text):
    with pytest.raises(UserError, match="<!-- "):
        readme.updated(text, ROOT)


def test_other_results_would_be_seen(tmp_path):
    """A quotation follows its file: with other verdicts the outcome says the opposite."""
    source = ROOT / "results/digits/images/report/verdict.json"
    file = tmp_path / source.relative_to(ROOT)
    file.parent.mkdir(parents=True)
    report = json.loads(source.read_text())
    for verdict in ("reproduced", "refuted", "undecided"):
        for row in report["claims"]:
            row["verdict"] = verdict
        file.write_text(json.dumps(report))
        assert f"from every checkpoint: {verdict} at `digits`" in quotations.digits_outcome(tmp_path)
        assert f"**{verdict}**" in quotations.verdicts("digits", "images")(tmp_path)


def test_the_setting_of_a_scale_is_that_of_its_baselines(page, tmp_path):
    said = quotations.setting("digits")(page.root)
    assert "60 test images of 64 values and 17 levels, a U-Net of 1,234 parameters, T = 50" in said
    assert "1,500 steps to 2.86 bits/dim, 3 pretraining seeds, each with its own fine-tunes" in said
    (tmp_path / "results/digits/images/tables").mkdir(parents=True)  # without the table of the search
    assert "a former version" in quotations.setting("digits")(tmp_path)


def test_an_undecided_verdict_is_quoted_with_what_it_could_not_have_seen(tmp_path):
    file = tmp_path / "results/digits/images/report/verdict.json"
    file.parent.mkdir(parents=True)
    row = {"claim": "A claim", "estimate": 1.0, "detail": "the count; what could not be seen; a note"}
    for verdict, said in (("undecided", "the count; what could not be seen"), ("refuted", "the count")):
        file.write_text(json.dumps({"claims": [{**row, "verdict": verdict}]}))
        assert quotations.verdicts("digits", "images")(tmp_path) == f"- A claim: **{verdict}** ({said})"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.4444, "0.44"),
        (1.0, "1"),
        (1.69, "1.7"),
        (16.87, "17"),
        (99.9, "100"),
        (123.4, "120"),
        (34567, "35,000"),
    ],
)
def test_two_digits(number, text):
    assert quotations._short(number) == text


def test_the_ranking_of_objectives_comes_from_its_file(tmp_path):
    assert "no results here" in quotations.objectives(tmp_path)
    file = tmp_path / "results/divergences/divergences/report/objectives.md"
    file.parent.mkdir(parents=True)
    file.write_text("Ranked.\n\n![curves](../figures/a.png)\n")
    ranked = "Ranked.\n\n![curves](../results/divergences/divergences/figures/a.png)"
    assert quotations.objectives(tmp_path) == ranked


def test_every_file_that_readme_and_docs_link_to_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
