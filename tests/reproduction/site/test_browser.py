"""What a reader can do with the report page, in a headless Chromium."""

import json
import os
import shutil

import pytest

from reproduction.site import build

WIDE, PHONE = 1280, 360


@pytest.fixture
def file(page):
    return page.file


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
def desk(browser, page):
    """The page on a large screen, for every test that leaves it usable."""
    opened = Watched(browser, page.file)
    yield opened
    opened.close()


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


def test_filtering_the_verdicts(desk, page):
    reports = (page.root / "results/digits").glob("*/report/verdict.json")
    rows = [
        row
        for file in reports
        if "divergences" not in str(file)
        for row in json.loads(file.read_text())["claims"]
    ]
    wanted = [row for row in rows if row["verdict"] == "refuted"]
    desk.page.select_option("[data-filter=verdict]", "refuted")
    desk.page.select_option("[data-filter=scale]", "digits")
    desk.page.select_option("[data-filter=paper]", "2209.02606")
    visible = desk.page.locator("#verdict-table tbody tr:visible")
    assert visible.count() == len(wanted) > 0
    assert desk.page.locator(".filters .count").inner_text().startswith(f"{len(wanted)} of ")
    desk.page.select_option("[data-filter=paper]", "2410.09355")
    assert visible.count() == 0


def test_provenance_opens_and_closes(desk):
    link = desk.page.locator("#images-figure1-digits a.made")
    link.scroll_into_view_if_needed()
    link.click()
    dialog = desk.page.locator("#record-dialog")
    text = dialog.inner_text()
    assert "mlegfn stage images.report digits" in text and "images.digits.pretrain.batch" in text
    assert f"{0:032x}.dir" in text
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


def test_switching_a_line_off_and_reading_a_point(desk, page):
    chart = desk.draw("nll-digits")
    lines = chart.locator("svg .mark-line path")
    before = lines.count()
    until = "n => document.querySelectorAll('[data-chart=nll-digits] .mark-line path').length === n"
    chart.get_by_role("checkbox", name="MLE-GFN").uncheck()
    desk.page.wait_for_function(until, arg=before - 2)  # one from each checkpoint
    for name in ("simple", "reweighted", "vlb", "vlb_tbc"):
        chart.locator("label", has=desk.page.locator(f"input[value={name}]")).click()
    desk.page.wait_for_function(until, arg=1)
    box = chart.locator("svg .mark-symbol path").last.bounding_box()  # the end of the baseline
    desk.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    desk.page.wait_for_selector("#vg-tooltip-element.visible")
    text = desk.page.inner_text("#vg-tooltip-element")
    files = [page.root / f"results/digits/images/metrics/nll/baseline/1500-{seed}.json" for seed in range(3)]
    nlls = [json.loads(file.read_text())["points"][0]["bits_per_dim"] for file in files]
    assert "DDPM baseline" in text and f"{sum(nlls) / 3:.4f}" in text
    ticks = "document.querySelector('[data-chart=nll-digits] svg').textContent"
    assert "100k" not in desk.page.evaluate(ticks)
    chart.locator("select").select_option("evaluations")
    desk.page.wait_for_function(f"{ticks}.includes('100k')")


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


CONTRAST = "color-contrast"
# axe takes milliseconds a node: two rows of a table, two stages, one figure of a kind stand for the others.
SHORTEN = """() => {
    const keep = (selector, parts, n) => {
        for (const each of document.querySelectorAll(selector)) [...parts(each)].slice(n).forEach(part => part.remove());
    };
    keep("tbody", body => body.rows, 2);
    keep(".claims, .tally", list => list.children, 3);
    keep(".pairs, .record, #divergences, #gallery", list => list.children, 6);
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
    # Contrast, which takes longest, is all that a theme decides, and nothing that a width does.
    others = {"rules": {CONTRAST: {"enabled": False}}}
    looks = {"light": {}, "dark": {"runOnly": [CONTRAST]}} if width == WIDE else {"light": others}
    for theme, options in looks.items():
        assert seen.page.locator("html").get_attribute("data-theme") == theme
        found = Axe().run(
            seen.page,
            context={"exclude": [[".plot svg"]]},
            options={"resultTypes": ["violations"], **options},
        )
        assert found.violations_count == 0, f"{theme}: {found.generate_report()}"
        seen.page.locator("button.theme").click()
    seen.page.locator("#images-figure1-digits a.made").click()
    found = Axe().run(seen.page, context="#record-dialog")
    assert found.violations_count == 0, found.generate_report()


def test_without_scripts_the_figures_and_tables_are_there(open_page, file):
    seen = open_page(file, java_script_enabled=False)
    assert seen.page.locator("#images-figure1-digits img").is_visible()
    assert seen.page.locator("#verdict-table tbody tr:visible").count() > 40
    assert not seen.page.locator(".js-only:visible").count()


def test_the_page_of_a_checkout_in_which_nothing_ran(open_page, page, tmp_path, monkeypatch):
    for name in ("params.yaml", "params", "claims"):
        (tmp_path / name).symlink_to(page.root / name)
    monkeypatch.chdir(tmp_path)
    build.build("empty.html")
    seen = open_page(tmp_path / "empty.html")
    assert "Nothing has been measured" in seen.page.inner_text("#outcome")
    assert "make reproduce SCALE=smoke" in seen.page.inner_text("#likelihood")
    assert not seen.page.locator("img").count()
    assert seen.page.locator("#provenance .missing").is_visible()
