"""The Snakefile is clean, and `snakemake --report` shows a scale's results without a network."""

import json
import re
import shutil

import pytest
from conftest import REPOSITORY

from mlegfn import gallery
from mlegfn.pipeline import engine
from mlegfn.pipeline.snakemake_report import GALLERY, ITEMS, Report, item_of, quoted

STARTED = "2026-01-02T03:04:05+00:00"


@pytest.fixture(scope="module")
def reported(snakemade, tmp_path_factory):
    """A checkout as after `make restore` in a clone: results and a provenance record, nothing of Snakemake's own.
    Its report is report.html."""
    checkout = snakemade.duplicate(tmp_path_factory.mktemp("report") / "checkout")
    shutil.rmtree(checkout.root / ".snakemake")
    record = checkout.root / "results/smoke/provenance/tables@smoke.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps({"started": STARTED, "wall_s": 61.5}))
    checkout.run("snakemake", "--report", "report.html", "--config", "scale=smoke")
    return checkout


def test_lint_and_format(reported):
    assert "Congratulations" in reported.run("snakemake", "--lint", "--config", "scale=smoke").stdout
    reported.run("snakefmt", "--check", REPOSITORY / "Snakefile")


def test_every_figure_table_and_verdict_is_there_with_its_caption(reported, monkeypatch):
    monkeypatch.chdir(reported.root)
    page = (reported.root / "report.html").read_text()
    outputs = [out for stage in engine.read("smoke").stages.values() for out in stage.outs]
    shown = [Report("smoke").key(out) for out in outputs]
    of_stations = {key for key in filter(None, shown) if key.split("/")[1].startswith(GALLERY)}
    assert set(filter(None, shown)) - of_stations == set(ITEMS), "ITEMS has what the stages make"
    assert {key.split(GALLERY)[1] for key in of_stations} <= set(gallery.titles()) and len(of_stations) >= 4
    for out, key in zip(outputs, shown):
        assert (f'"{out}": {{"name"' in page) == (key is not None), out
        if key:
            assert json.dumps(item_of(key).title)[1:-1] in page
    assert "lies below the grey baseline" in page
    verdicts = json.loads((reported.root / "results/smoke/report/verdict.json").read_text())["claims"]
    tested = [each for each in verdicts if each["verdict"] == "not reproduced"]
    assert tested and page.count("not reproduced") >= len(tested)
    assert re.search(r'"rule": "tables@smoke", "runtime": 61\.5', page), "the run's time, from its provenance"


def test_it_opens_without_a_network(reported):
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no chromium here")
    asked, errors = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto((reported.root / "report.html").as_uri())
        page.get_by_text("Figures", exact=True).first.click()
        page.locator("tr", has_text="figure1.png").locator("a").first.click()
        image = page.locator("img[src^='data:image/png']").last
        image.wait_for()
        assert image.evaluate("image => image.complete && image.naturalWidth > 100")
        page.locator("tr", has_text="figure1.png").locator("a").last.click()
        page.get_by_text("lies below the grey baseline").first.wait_for()
        browser.close()
    assert not errors
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def test_captions_of_any_claims(tmp_path, monkeypatch):
    """Text is text, for reStructuredText and Jinja; broken files cost captions, not the run."""
    from docutils.core import publish_parts
    from jinja2 import Environment

    odd = "P_B* |x| `y` {{ z }} _w_ <b> [1]_ \\"
    rendered = Environment().from_string(quoted(odd)).render()
    body = publish_parts(rendered, writer="html", settings_overrides={"report_level": 1})["body"]
    text = re.sub("<[^>]+>", "", body).strip()
    assert text == odd.replace("<b>", "&lt;b&gt;")
    monkeypatch.chdir(tmp_path)
    report = Report("s")
    for broken in ("[", "- a", "a: b", "a: {claim: 1}"):
        (tmp_path / "claims.yaml").write_text(broken)
        report.write(["results/s/figures/new.png", "results/s/metrics/x.json"])
        assert (report.captions / "figures/new.rst").read_text() == f"**{quoted('new')}**\n"
    verdicts = tmp_path / "results/s/report/verdict.json"
    verdicts.parent.mkdir(parents=True)
    verdicts.write_text('{"claims": [{"id": "figure1", "verdict": "reproduced"}]}')
    (tmp_path / "claims.yaml").write_text("figure1: {claim: A, paper: B, source: C}\n")
    report.write(["results/s/figures/figure1.png"])
    caption = (report.captions / "figures/figure1.rst").read_text()
    assert [quoted(text) in caption for text in ("A", "(C: B)", "reproduced")] == [True] * 3
    assert "Of 1 claims, 1 are tested" in (report.captions / "description.rst").read_text()


def test_provenance_in_place_of_snakemakes_records_keeps_no_stage_from_running(smoke):
    """As in a clone whose commit has records: what is to run again is asked for more than the report shows."""
    shutil.rmtree(smoke.root / ".snakemake")
    (smoke.root / "data/smoke/images.safetensors").unlink()
    shown = smoke.run("snakemake", "-n", "--config", "scale=smoke").stdout
    assert re.search(r"^fetch@smoke +1$", shown, re.MULTILINE) and "Traceback" not in shown
