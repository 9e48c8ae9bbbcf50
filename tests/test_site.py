"""What stands on the report page."""

import base64
import copy
import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mlegfn.errors import UserError
from mlegfn.pipeline import recorded
from mlegfn.report import figure3, style
from mlegfn.report.site import build, charts, frames, gather, markup, readings, records

REPOSITORY = Path(__file__).resolve().parent.parent


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
    names, lock = ["figures@digits", "tables@digits", "verdict@digits"], recorded.Lock()
    assert records.measured("digits", names, lock) is None
    folder = tmp_path / "results/digits/provenance"
    folder.mkdir(parents=True)
    for name in names[:2]:
        (folder / f"{name}.json").write_text("{}")
    monkeypatch.setattr(records, "of_stage", lambda name, lock: {**RECORD, "stage": name})
    assert records.measured("digits", names, lock) == {
        "stages": 3,
        "recorded": 2,
        "seconds": pytest.approx(24.68),
        "peak_memory_mib": 321.0,
        "devices": ["cpu: <i>a processor</i>, 2 cores"],
    }


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
