"""The report page: what stands on it, and in a headless Chromium what a reader can do with it."""

import base64
import copy
import io
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mlegfn.errors import UserError
from mlegfn.report import figure3, style
from mlegfn.report.site import build, charts, frames, gather, markup, readings, records

REPOSITORY = Path(__file__).resolve().parent.parent
WIDE, PHONE = 1280, 360


def verdicts(name):
    return json.loads((REPOSITORY / "results" / name).read_text())["claims"]


@pytest.fixture(scope="module")
def site():
    """What is gathered of the committed results."""
    before = os.getcwd()
    os.chdir(REPOSITORY)
    yield gather.gather()
    os.chdir(before)


@pytest.fixture(scope="module")
def html(site):
    return build.render(site)


@pytest.fixture(scope="module")
def file(html, tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "index.html"
    path.write_text(html)
    return path


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium and not os.environ.get("CI"):
        pytest.skip("no chromium on the PATH; apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page of which every request and every complaint is remembered."""

    def __init__(self, browser, path, width=WIDE, scheme="light", **more):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce", **more
        )
        self.page, self.requests, self.complaints = self.context.new_page(), [], []
        self.page.set_default_timeout(10_000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())

    def draw(self, chart):
        """Scroll to a chart and wait until it is drawn."""
        self.page.locator(f"[data-chart={chart}]").scroll_into_view_if_needed()
        self.page.wait_for_selector(f"[data-chart={chart}][data-drawn] svg")
        return self.page.locator(f"[data-chart={chart}]")

    def close(self):
        """Nothing may have gone to the network, and nobody complained."""
        self.context.close()
        assert not self.complaints
        assert self.requests
        assert all(url.startswith(("file:", "data:", "blob:")) for url in self.requests), self.requests


@pytest.fixture
def open_page(browser):
    """Open a file in the browser; it is watched until the test ends."""
    opened = []

    def open_one(*arguments, **more):
        opened.append(Watched(browser, *arguments, **more))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def desk(browser, file):
    """The page on a large screen, for every test that leaves it usable."""
    opened = Watched(browser, file)
    yield opened
    opened.close()


# What stands on it


def test_every_recorded_figure_and_every_verdict_is_on_the_page(site, html):
    recorded = {path.stem + "-" + path.parts[-3] for path in REPOSITORY.glob("results/*/figures/*.svg")}
    shown = {at["id"] for section in site["sections"] for each in section["figures"] for at in each["scales"]}
    assert shown == recorded
    for at in (at for s in site["sections"] for each in s["figures"] for at in each["scales"]):
        assert len(at["alt"]) > 80 and f'id="{at["id"]}"' in html
        assert f'id="stage-{at["stage"]}"' in html
    files = list(REPOSITORY.glob("results/*/report/*.json"))
    assert len(site["verdicts"]) == sum(len(json.loads(path.read_text())["claims"]) for path in files)


def test_scales_without_results_are_named_with_their_command(site, html):
    missing = {each["name"] for section in site["sections"] for each in section["missing"]}
    without = {name for name in ("cifar10", "cifar10-hour") if not (REPOSITORY / "results" / name).exists()}
    assert without <= missing
    for name in missing:
        assert f"make reproduce SCALE={name}" in html


def test_equal_results_give_equal_bytes(html):
    assert build.render(gather.gather()) == html


def test_the_page_is_small_enough(html):
    assert len(html.encode()) < 12e6


def test_it_names_no_address_that_a_browser_would_fetch(html):
    ours = html[: html.index('<script type="application/json" id="charts">')]
    assert not re.findall(r"(?:src|srcset|action)=[\"']?(?!data:)[^\"'> ]+|@import|url\((?!data:)", ours)


def rows(first, control, scale="digits"):
    def row(name, verdict, outcomes):
        parts = [{"outcome": outcome} for outcome in outcomes]
        return {"id": name, "verdict": verdict, "scale": scale, "parts": parts}

    words = {
        True: ("reproduced", ["lower", "lower"]),
        False: ("not reproduced", ["higher", "indistinguishable"]),
    }
    return [row(readings.KEY[0], *words[first]), row(readings.KEY[1], *words[control])]


def test_the_first_sentence_follows_the_verdicts():
    assert readings.outcome([])[0].startswith("Nothing has been measured")
    good = readings.outcome(rows(True, True))[0]
    assert "MLE-GFN beats the baseline" in good and "2 of 2 checkpoints." in good
    alike = readings.outcome(rows(True, False))[0]
    assert "0 of 2 checkpoints, so that the term is not shown to be why" in alike
    bad = readings.outcome(rows(False, False))[0]
    assert "does not beat the baseline" in bad
    both = readings.outcome(rows(True, False) + rows(False, False, "other"))
    assert "at `digits`, but not at `other`; " in both[0] and "0 of 4 checkpoints" in both[0]
    assert both[-1].startswith("Of 4 verdicts at 2 scales, 1 say “reproduced” and 3 “not reproduced”")


def test_a_reading_quotes_the_verdict():
    row = next(row for row in verdicts("digits/report/verdict.json") if row["id"] == readings.KEY[0])
    text, notes = readings.reading(row)
    assert readings.number(row["estimate"]) in text and row["where"] in text and text.endswith("3 seeds.")
    assert notes.endswith("one pre-training run.")


@given(some.text(max_size=60))
def test_nothing_in_a_text_becomes_markup(text):
    prose, tables = markup.split(
        f"| a |\n|:--|\n| x {text} |\n\n<b>{text}</b> [link](../x.md) ![picture](y.png)\n"
    )
    shown = "".join(prose) + "".join(cell.html for table in tables for row in table.rows for cell in row)
    assert set(re.findall(r"<\s*/?\s*([a-z0-9!]+)", shown)) <= {"strong", "em", "code", "sub", "br"}
    assert "<" not in build.as_json({"text": text})


def test_tables_sort_by_what_a_reader_would_sort_by():
    _, (table,) = markup.split(
        "| task | L1 |\n|:--|--:|\n| a | −0.5 ± 0.1 |\n| | 1,200† |\n| b | 7.4e−4 |\n| c | not measured |\n| d | 3 |\n"
    )
    assert table.numeric == [False, True]
    assert [row[1].key for row in table.rows] == [-0.5, 1200.0, 7.4e-4, None, 3.0]
    assert table.rows[1][0].repeated and table.rows[1][0].html == "a"


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32)])
def test_the_frames_are_the_pixels_of_the_states(channels, side, tmp_path, monkeypatch):
    from PIL import Image

    states = np.random.default_rng(0).uniform(-1.3, 1.3, (9, 6, channels, side, side))
    samples = {
        "trajectories": states,
        "times": frames.steps(50, 9),
        "samples": np.zeros((4, channels, side, side)),
    }
    folder = tmp_path / "results/some/figures"
    folder.mkdir(parents=True)
    (folder / "figure3.svg").write_bytes(style.draw(figure3.plot, samples, 256)["svg"])
    monkeypatch.chdir(tmp_path)
    scale = SimpleNamespace(
        diffusion=SimpleNamespace(timesteps=50), trajectories=SimpleNamespace(columns=9, shown=6)
    )
    found = frames.read("some", scale, channels * side * side)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["sprite"].split(",")[1]))))
    wanted = (
        np.round((np.clip(states, -1, 1) + 1) / 2 * 255)
        .transpose(1, 3, 0, 4, 2)
        .reshape(6 * side, 9 * side, -1)
    )
    assert np.abs(picture.astype(int) - wanted).max() <= 1
    scale.trajectories.shown = 5
    assert frames.read("some", scale, channels * side * side) is None


def test_the_times_are_those_that_sampling_keeps():
    import torch

    for timesteps, columns in ((50, 9), (1000, 9), (1000, 11), (7, 5)):
        kept = torch.linspace(timesteps, 0, columns).round().long().unique().flip(0)
        assert frames.steps(timesteps, columns) == kept.tolist()


def test_a_chart_holds_the_measured_values(site):
    spec = site["charts"]["nll-digits"]
    values = spec["datasets"]["points"]
    baseline = {row["steps"]: row["value"] for row in values if row["series"] == "baseline"}
    for step, value in baseline.items():
        file = REPOSITORY / f"results/digits/metrics/nll/baseline-{step}.json"
        assert value == pytest.approx(json.loads(file.read_text())["points"][0]["bits_per_dim"], rel=1e-5)
    assert len(baseline) == 6 and {row["series"] for row in values} == set(charts.ARMS)


RECORD = {
    "stage": "figures@digits",
    "command": "mlegfn stage figures --scale digits",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": True,
    "started": "2026-11-24T12:00:00Z",
    "wall_s": 12.34,
    "peak_memory_mib": 321.0,
    "parameters": {"scales.digits.pretrain.batch": 64, "scales.digits.data.path": None},
    "seeds": {"scales.digits.finetune.seeds": [0, 1, 2]},
    "inputs": {"results/digits/metrics/nll": "5718285b568be8529abe60717e52ef5b.dir"},
    "outputs": {"results/digits/figures/figure1.md": "11d77f803161393bf095493703813549"},
    "device": {"kind": "cpu", "name": "<i>a processor</i>", "cores": 2, "machine": "x86_64"},
    "python": "3.11.2",
    "packages": {"torch": "2.9.0"},
    "requirements_lock": "ab" * 32,
    "recorded": True,
}


def test_a_record_is_shown_whole(site):
    found = copy.copy(site)
    found["records"] = [{**RECORD, "device_text": records.device(RECORD)}]
    page = build.render(found)
    shown = page[page.index('<div class="record"') :]
    for text in (
        "Recorded when it ran",
        "with uncommitted changes",
        "12.3 s",
        "321 MiB",
        "2.9.0",
        "ab" * 32,
        "[0, 1, 2]",
    ):
        assert text in shown
    assert (
        "cpu: &lt;i&gt;a processor&lt;/i&gt;, 2 cores" in shown
        and "not recorded" not in shown.split("<h4>Packages")[0]
    )


def test_what_the_stages_of_a_scale_took_is_added_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert records.measured("digits", ["figures@digits", "tables@digits"]) is None
    folder = tmp_path / "results/digits/provenance"
    folder.mkdir(parents=True)
    for name in ("figures@digits", "tables@digits"):
        (folder / f"{name}.json").write_text("{}")
    monkeypatch.setattr(records, "of_stage", lambda name: {**RECORD, "stage": name})
    assert records.measured("digits", ["figures@digits", "tables@digits", "verdict@digits"]) == {
        "stages": 3,
        "recorded": 2,
        "seconds": pytest.approx(24.68),
        "peak_memory_mib": 321.0,
        "devices": ["cpu: <i>a processor</i>, 2 cores"],
    }


# What a reader does


def test_sorting_by_click_and_by_keyboard(desk):
    desk.page.select_option("[data-filter=verdict]", "")
    head = desk.page.locator("#verdict-table th", has_text="estimate")

    def keys():
        found = desk.page.eval_on_selector_all(
            "#verdict-table tbody tr", "rows => rows.map(row => row.cells[2].dataset.key ?? null)"
        )
        return [None if key is None else float(key) for key in found]

    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    there = [key for key in keys() if key is not None]
    assert len(there) > 20 and there == sorted(there) and keys()[: len(there)] == there
    head.locator("button").focus()
    desk.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert keys()[: len(there)] == there[::-1]
    other = desk.page.locator("#verdict-table th", has_text="scale")
    other.locator("button").click()
    assert head.get_attribute("aria-sort") is None and other.get_attribute("aria-sort") == "ascending"


def test_filtering_the_verdicts(desk):
    wanted = [
        row for row in verdicts("cifar10-cpu/report/verdict.json") if row["verdict"] == "not reproduced"
    ]
    desk.page.select_option("[data-filter=verdict]", "not reproduced")
    desk.page.select_option("[data-filter=scale]", "cifar10-cpu")
    visible = desk.page.locator("#verdict-table tbody tr:visible")
    assert visible.count() == len(wanted) > 0
    assert desk.page.locator(".filters .count").inner_text().startswith(f"{len(wanted)} of ")
    desk.page.select_option("[data-filter=paper]", "2410.09355")
    assert visible.count() == 0


def test_provenance_opens_and_closes(desk):
    link = desk.page.locator("#figure1-digits a.made")
    link.scroll_into_view_if_needed()
    link.click()
    dialog = desk.page.locator("#record-dialog")
    text = dialog.inner_text()
    assert "mlegfn stage figures --scale digits" in text
    lock = (REPOSITORY / "dvc.lock").read_text()
    md5 = re.search(r"path: results/digits/figures/figure1.svg\n\s+hash: md5\n\s+md5: (\w+)", lock)[1]
    assert md5 in text and "scales.digits.pretrain.checkpoints" in text
    desk.page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert link.evaluate("link => link === document.activeElement")


def test_walking_along_a_trajectory(desk):
    slider = desk.page.locator("#slider-digits")
    slider.scroll_into_view_if_needed()
    place = "frame => getComputedStyle(frame).backgroundPositionX"
    frame = slider.locator(".frame").first
    assert slider.locator("output").inner_text() == "t = 50" and frame.evaluate(place) == "0%"
    slider.locator("input").focus()
    desk.page.keyboard.press("ArrowRight")
    assert slider.locator("output").inner_text() == "t = 44" and frame.evaluate(place) == "12.5%"
    assert slider.locator("input").get_attribute("aria-valuetext") == "t = 44"
    desk.page.keyboard.press("End")
    assert slider.locator("output").inner_text() == "t = 0" and frame.evaluate(place) == "100%"


def test_switching_a_line_off_and_reading_a_point(desk):
    chart = desk.draw("nll-digits")
    lines = chart.locator("svg .mark-line path")
    before = lines.count()
    until = "n => document.querySelectorAll('[data-chart=nll-digits] .mark-line path').length === n"
    chart.get_by_role("checkbox", name="MLE-GFN").uncheck()
    desk.page.wait_for_function(until, arg=before - 5)  # one from each checkpoint
    for name in ("simple", "vlb"):
        chart.locator("label", has=desk.page.locator(f"input[value={name}]")).click()
    desk.page.wait_for_function(until, arg=1)
    box = chart.locator("svg .mark-symbol path").last.bounding_box()  # the end of the baseline
    desk.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    desk.page.wait_for_selector("#vg-tooltip-element.visible")
    text = desk.page.inner_text("#vg-tooltip-element")
    file = json.loads((REPOSITORY / "results/digits/metrics/nll/baseline-1800.json").read_text())
    assert "DDPM baseline" in text and f"{file['points'][0]['bits_per_dim']:.4f}" in text
    ticks = "document.querySelector('[data-chart=nll-digits] svg').textContent"
    assert "200k" not in desk.page.evaluate(ticks)
    chart.locator("select").select_option("evaluations")
    desk.page.wait_for_function(f"{ticks}.includes('200k')")


def test_choosing_a_task_of_the_learning_curves(desk):
    chart = desk.draw("curves-divergences")
    first = chart.locator("svg .mark-line path").first.get_attribute("d")
    chart.locator("select").select_option("banana")
    desk.page.wait_for_function(
        "d => document.querySelector('[data-chart=curves-divergences] .mark-line path').getAttribute('d') !== d",
        arg=first,
    )


def test_the_theme_follows_the_system_until_it_is_chosen(desk):
    root, button = desk.page.locator("html"), desk.page.locator("button.theme")
    chart = desk.draw("nll-digits")
    light = chart.locator("svg text").first.get_attribute("fill")
    desk.page.emulate_media(color_scheme="dark")
    desk.page.wait_for_selector("[data-chart=nll-digits][data-drawn=dark]")
    assert button.get_attribute("aria-pressed") == "true"
    assert chart.locator("svg text").first.get_attribute("fill") != light
    button.click()
    assert root.get_attribute("data-theme") == "light" and button.get_attribute("aria-pressed") == "false"
    desk.page.reload()
    assert root.get_attribute("data-theme") == "light"  # although the system is dark


# axe takes milliseconds a node: two rows of a table, two stages, one figure of a kind stand for the others.
SHORTEN = """() => {
    const keep = (selector, parts, n) => {
        for (const each of document.querySelectorAll(selector)) [...parts(each)].slice(n).forEach(part => part.remove());
    };
    keep("tbody", body => body.rows, 2);
    keep(".pairs, .record, #divergences", list => list.children, 6);
    keep("#provenance", list => list.querySelectorAll(".stage"), 2);
    keep("article", list => list.querySelectorAll("figure"), 1);
}"""


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_accessible_in_both_themes_and_never_wider_than_the_screen(width, open_page, file):
    from axe_playwright_python.sync_playwright import Axe

    seen = open_page(file, width=width)
    seen.draw("nll-digits")
    seen.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    seen.page.evaluate(SHORTEN)
    for theme in ("light", "dark"):
        assert seen.page.locator("html").get_attribute("data-theme") == theme
        found = Axe().run(
            seen.page, context={"exclude": [[".plot svg"]]}, options={"resultTypes": ["violations"]}
        )
        assert found.violations_count == 0, f"{theme}: {found.generate_report()}"
        seen.page.locator("button.theme").click()
    seen.page.locator("#figure1-digits a.made").click()
    found = Axe().run(seen.page, context="#record-dialog")
    assert found.violations_count == 0, found.generate_report()


def test_without_scripts_the_figures_and_tables_are_there(open_page, file):
    seen = open_page(file, java_script_enabled=False)
    assert seen.page.locator("#figure1-digits img").is_visible()
    assert seen.page.locator("#verdict-table tbody tr:visible").count() > 40
    assert not seen.page.locator(".js-only:visible").count()


def test_the_page_of_a_checkout_in_which_nothing_ran(pristine, open_page, tmp_path):
    path = tmp_path / "empty.html"
    pristine.run("mlegfn", "report", "--out", path)
    seen = open_page(path)
    assert "Nothing has been measured" in seen.page.inner_text("#outcome")
    assert "make reproduce SCALE=smoke" in seen.page.inner_text("#likelihood")
    assert not seen.page.locator("img").count()
    assert seen.page.locator("#provenance .missing").is_visible()


def test_what_is_broken_is_named_in_one_line_and_there_is_no_page(pristine, tmp_path, monkeypatch):
    checkout = pristine.duplicate(tmp_path / "checkout")
    monkeypatch.chdir(checkout.root)
    report, figures = (Path("results/smoke", name) for name in ("report", "figures"))
    report.mkdir(parents=True)
    figures.mkdir()
    verdict = report / "verdict.json"
    verdict.write_text('{"claims": [{"id": 1}]}')
    done = checkout.run("mlegfn", "report", check=False)
    assert done.returncode == 2 and done.stdout.count("\n") == 1 and str(verdict) in done.stdout
    verdict.unlink()
    (figures / "discrete.png").write_bytes(b"not looked into")
    (figures / "discrete.md").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"discrete\.md: not as the stage discrete_report@smoke writes it"):
        build.build()
    (figures / "discrete.md").unlink()
    with pytest.raises(UserError, match=r"results: cannot be written .* --out"):
        build.build("results")
    assert not Path("report").exists()
