"""What stands on the report page."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic_images as synthetic

from mlegfn.errors import UserError
from reproduction.images.report import tables
from reproduction.site import artifacts, build, charts, gather
from reproduction.verdicts import statistics

REPOSITORY = Path(__file__).resolve().parents[3]


def figures(site):
    return [at for section in site["sections"] for figure in section["figures"] for at in figure["scales"]]


def results(root, pattern):
    """Files of results, but for those of a former version."""
    found = root.glob(f"results/*/*/{pattern}")
    return [path for path in found if not artifacts.former(path.parts[-4], path.parts[-3], root)]


def test_every_figure_and_every_verdict_is_on_the_page(page):
    drawn = {f"{path.parts[-3]}-{path.stem}-{path.parts[-4]}" for path in results(page.root, "figures/*.svg")}
    assert {at["id"] for at in figures(page.site)} == drawn
    for at in figures(page.site):
        assert len(at["alt"]) > 80 and f'id="{at["id"]}"' in page.html
    verdicts = results(page.root, "report/verdict.json")
    assert len(page.site["verdicts"]) == sum(len(json.loads(path.read_text())["claims"]) for path in verdicts)


def test_claims_stand_beside_their_figures(page):
    shown = {
        figure["id"]: len(figure["claims"])
        for section in page.site["sections"]
        for figure in section["figures"]
    }
    assert shown["images-figure1"] > 3 and shown["bits-bits"] > 1 and shown["divergences-variance"] > 3
    assert shown["images-figure3"] == shown["families-families"] == 0
    stations = [key for key in shown if key.startswith("gallery-")]
    assert len(stations) > 10 and all(shown[key] for key in stations)


def test_ids_are_unique(page):
    ids = re.findall(r'\sid="([^"]*)"', page.html[: page.html.index('id="charts"')])
    assert len(ids) == len(set(ids))


def test_how_a_figure_was_made_stands_below_it(page):
    stages = {at["id"]: at["stage"] for at in figures(page.site)}
    assert stages["images-figure1-digits"] == "images_report@digits"
    assert stages["families-families-digits"] == "families_report@digits"
    assert stages["bits-bits-discrete"] is None
    assert (
        'href="#stage-images_report@digits"' in page.html and 'id="stage-images_report@digits"' in page.html
    )
    assert "Not recorded by the present dvc.lock" in page.html
    shown = {record["stage"]: record["recorded"] for record in page.site["records"]}
    assert shown == {"images_report@digits": True, "families_report@digits": False}
    assert "Recorded in dvc.lock, no run record." in page.html


def test_a_record_is_shown_whole(page):
    start = page.html.index('id="stage-images_report@digits"')
    shown = page.html[start : page.html.index("</details>", start)]
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
    assert "cpu: &lt;i&gt;a processor&lt;/i&gt;, 2 cores" in shown and "not recorded" not in shown


def test_scales_without_results_are_named_with_their_command(page):
    missing = {scale["name"] for section in page.site["sections"] for scale in section["missing"]}
    assert {"smoke", "cifar10"} <= missing
    for name in missing:
        assert f"make reproduce SCALE={name}" in page.html
    recorded = {scale["name"]: scale["recorded"] for scale in page.site["scales"]}
    assert recorded["digits"] and not recorded["gallery"]


def test_equal_results_give_equal_bytes(page, monkeypatch):
    monkeypatch.chdir(page.root)
    assert build.render(gather.gather()) == page.html


def test_the_page_is_small_enough(page):
    assert len(page.html.encode()) < 12e6


def test_it_names_no_address_that_a_browser_would_fetch(page):
    ours = page.html[: page.html.index('<script type="application/json" id="charts">')]
    assert not re.findall(r"(?:src|srcset|action)=[\"']?(?!data:)[^\"'> ]+|@import|url\((?!data:)", ours)


def of_seeds(folder, model, step, number=-1):
    """One point of the models of all three seeds, as their files hold it."""
    files = [folder / "nll" / model / f"{step}-{seed}.json" for seed in range(3)]
    return [json.loads(file.read_text())["points"][number] for file in files]


def test_a_chart_holds_the_measured_values(page):
    points = page.site["charts"]["nll-digits"]["datasets"]["points"]
    folder = page.root / "results/digits/images/metrics"
    baseline = {row["steps"]: row for row in points if row["series"] == "baseline"}
    assert list(baseline) == [600, 1200, 1500]
    for step, row in baseline.items():
        measured = [point["bits_per_dim"] for point in of_seeds(folder, "baseline", step)]
        spent = json.loads((folder / f"pretrain/{step}-0.json").read_text())["network_evaluations"]
        assert row["value"] == pytest.approx(np.mean(measured), rel=1e-5)
        assert (row["low"], row["high"]) == pytest.approx(statistics.student(measured)[1:], rel=1e-5)
        assert row["evaluations"] == spent["forward"] + spent["backward"]
    for arm in charts.ARMS.keys() - {"baseline"}:
        for step in (600, 1200):
            first, *_, last = (row for row in points if row["line"] == f"{arm} {step}")
            runs = of_seeds(folder, arm, step)
            assert first["value"] == baseline[step]["value"]
            assert last["steps"] == runs[0]["step"]
            assert last["value"] == pytest.approx(np.mean([run["bits_per_dim"] for run in runs]), rel=1e-5)


def test_every_series_of_a_chart_has_a_title_and_a_colour(page):
    styles = (REPOSITORY / "src/reproduction/site/static/page.css").read_text()
    for arm in charts.ARMS:
        assert styles.count(f"--{arm.replace('_', '-')}: #") == 2  # light and dark
        assert f'<input type="checkbox" value="{arm}"' in page.html


def test_the_changes_of_the_terms_add_up_to_that_of_the_nll(page):
    points = page.site["charts"]["terms-digits"]["datasets"]["points"]
    folder = page.root / "results/digits/images/metrics"
    for arm in charts.ARMS.keys() - {"baseline"}:
        means = [
            np.mean([run["bits_per_dim"] for run in of_seeds(folder, model, 600)])
            for model in (arm, "baseline")
        ]
        rows = [row for row in points if row["series"] == arm and row["checkpoint"] == "600"]
        assert sum(row["value"] for row in rows) / 1000 == pytest.approx(means[0] - means[1], abs=1e-6)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A checkout that has the settings, the claims and the bits of `digits` alone, to break."""
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    shutil.copytree(REPOSITORY / "claims", tmp_path / "claims")
    shutil.copytree(REPOSITORY / "results/digits/bits", tmp_path / "results/digits/bits")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results/digits/bits"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("report/verdict.json", b'{"claims": [{"id": 1}]}'),
        ("report/verdict.json", b"{"),
        ("figures/bits.md", b"\xff"),
        ("tables/bits.csv", b"a,b\n1,2\n"),
    ],
)
def test_what_is_broken_is_named_in_one_line_and_there_is_no_page(small, path, content):
    (small / path).write_bytes(content)
    with pytest.raises(UserError) as error:
        build.build()
    assert "results/digits/bits" in str(error.value) and "\n" not in str(error.value)
    assert not Path("report").exists()


def test_broken_claims_are_named(small):
    Path("claims/bits.yaml").write_text("one: {claim: 1}\n")
    with pytest.raises(UserError, match=r"claims/bits\.yaml"):
        build.build()


def test_a_folder_is_no_place_for_the_page(small):
    with pytest.raises(UserError, match=r"results: cannot be written .* --out"):
        build.build("results")


def test_a_scale_that_params_yaml_has_lost_is_shown_without_a_command(small):
    small.parent.rename(small.parent.parent / "older")
    site = gather.gather()
    (older,) = (scale for scale in site["scales"] if scale["name"] == "older")
    assert older["command"] is None and older["sections"] == ["32 bits"] and not older["recorded"]
    assert "not in params.yaml" in build.render(site)


def test_results_of_a_former_version_are_named_and_not_shown(small):
    """Other arms and claims stood behind them, whose names some of today's have."""
    images = small.parent / "images"
    verdict = {"id": "vlb-at-equal-steps", "verdict": "not reproduced"}
    for path, text in {
        "figures/figure1.svg": "<svg/>",
        "tables/nll.csv": "checkpoint,arm,step,bits_per_dim\n300,baseline,300,2.5\n300,tbc,340,2.4\n",
        "metrics/nll/baseline/300.json": "{}",
        "report/verdict.json": json.dumps({"claims": [verdict]}),
    }.items():
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (images / path).write_text(text)
    site = gather.gather()
    assert all(at["id"].startswith("bits-") for at in figures(site)) and not site["charts"]
    assert {row["experiment"] for row in site["verdicts"]} == {"bits"}
    for section in site["sections"]:
        former = [scale["name"] for scale in section["missing"] if scale["former"]]
        assert former == (["digits"] if section["id"] in ("likelihood", "trajectories") else [])
    html = build.render(site)
    assert html.count("make reproduce SCALE=digits</code>; what lies here was made by a former version") == 2


def test_a_scale_with_one_seed_and_few_arms_has_its_charts(small):
    settings = synthetic.settings(seeds=(4,))
    arms, metrics = ["simple", "simple_tbc"], small.parents[1]
    made = synthetic.write(settings, metrics, arms=arms)
    for name, text in tables.make(made).items():
        (small.parent / "images/tables").mkdir(exist_ok=True)
        (small.parent / "images/tables" / name).write_text(text)
    drawn = charts.nll("digits")
    assert [series["key"] for series in drawn["series"]] == ["baseline", *arms]
    points = drawn["spec"]["datasets"]["points"]
    assert all(row["low"] == row["value"] == row["high"] and row["spread"] == "one model" for row in points)
    assert {row["series"] for row in charts.terms("digits")["spec"]["datasets"]["points"]} == set(arms)
