"""Figure 2, the table and the verdicts of the planar problems, from metrics and samples that are made up."""

import io
import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from helpers import synthetic_planar as synthetic
from helpers.parts import prepare, run_stage

from mlegfn.errors import UserError
from reproduction.drawing import density, style
from reproduction.planar.report import figure2, tables
from reproduction.planar.report.metrics import Metrics

PROBLEMS = ["moons", "circles"]
SETTINGS = synthetic.settings()


@pytest.fixture
def small(tmp_path):
    synthetic.write_samples(tmp_path, PROBLEMS, points=500)
    return synthetic.write(SETTINGS, tmp_path, PROBLEMS)


def test_files_of_problems_that_are_gone_are_not_read(small, tmp_path):
    (tmp_path / "digits/planar/metrics/pinwheel.json").write_text("not JSON")
    again = Metrics("digits", SETTINGS, PROBLEMS, tmp_path)
    assert tables.make(again) == tables.make(small)


def broken(value, how):
    if how == "truncated":
        return json.dumps(value)[:50]
    if how == "a list":
        return "[]"
    if how == "no run":
        value["runs"] = [run for run in value["runs"] if run["model"] != "vlb"]
    if how == "no number":
        value["runs"][0]["nll"] = "2.4"
    if how == "no floor":
        value["mmd_floor"] = None
    if how == "no key":
        del value["timesteps"]
    return json.dumps(value)


@pytest.mark.parametrize("how", ["truncated", "a list", "no run", "no number", "no floor", "no key"])
def test_a_broken_file_is_one_line(small, tmp_path, how):
    path = tmp_path / "digits/planar/metrics/moons.json"
    path.write_text(broken(json.loads(path.read_text()), how))
    with pytest.raises(UserError, match=r"moons\.json") as error:
        Metrics("digits", SETTINGS, PROBLEMS, tmp_path)
    assert "\n" not in str(error.value)
    if how not in ("truncated", "a list"):
        assert "dvc repro planar@digits-moons" in str(error.value)


def test_a_missing_file_names_its_stage(small, tmp_path):
    (tmp_path / "digits/planar/metrics/moons.json").unlink()
    with pytest.raises(UserError, match=r"moons\.json: not found.*dvc repro planar@digits-moons"):
        Metrics("digits", SETTINGS, PROBLEMS, tmp_path)


def test_the_csv_has_full_precision(small):
    planar = pandas.read_csv(io.StringIO(tables.make(small)["planar.csv"]))
    assert list(planar.model) == ["ddpm", "vlb", "mle_gfn"] * 2
    assert (planar.mmd_floor_quantile_95 == 0.02).all()
    values = small.values("circles", "mle_gfn", "nll")
    row = planar[(planar.problem == "circles") & (planar.model == "mle_gfn")].iloc[0]
    assert row.nll == values.mean() and row.nll_deviation == values.std(ddof=1)


def test_the_markdown_states_its_conditions(small):
    text = tables.make(small)["planar.md"]
    for words in ("64 trajectories", "data and data", "T = 30", "1000 test points", "3 seeds"):
        assert words in text, words


def test_one_seed_has_no_deviation(tmp_path):
    metrics = synthetic.write(synthetic.settings(seeds=[4]), tmp_path, PROBLEMS)
    text = tables.make(metrics)["planar.md"]
    assert "over 1 seed." in text and "±" not in text.split("|", 1)[1] and "nan" not in text.lower()


def test_every_font_is_7_points_and_every_text_on_the_page(small, tmp_path):
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from safetensors.numpy import load_file

    samples = {p: load_file(tmp_path / f"digits/planar/samples/{p}.safetensors") for p in PROBLEMS}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style.SETTINGS)
        figure = figure2.plot(samples)
        FigureCanvasAgg(figure)
        figure.canvas.draw()
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
        assert {"moons", "circles", "ground truth", "MLE-GFN"} <= {text.get_text() for text in texts}
        for text in texts:
            box = text.get_window_extent()
            assert text.get_fontsize() >= 7
            assert (
                box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 and box.y1 <= figure.bbox.height
            )


def test_the_caption_says_what_the_frame_does_not_show():
    points = np.random.default_rng(8).normal(size=(500, 2)).astype(np.float32)
    frame = density.window(points)
    assert figure2.outside(points, frame) < 0.02 and figure2.outside(points + 100, frame) == 1
    text = figure2.caption("s", {"moons": {"data": points, "mle_gfn": points + 100}})
    assert "outside the frame: moons 100.0%" in text and "500 points each" in text
    assert "outside" not in figure2.caption("s", {"moons": {"data": points, "mle_gfn": 0 * points}})


def test_the_stage_writes_its_files_again_with_equal_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(prepare(tmp_path / "folder"))
    synthetic.write_samples("results", PROBLEMS)
    synthetic.write(SETTINGS, "results", PROBLEMS)
    written = []
    for _ in range(2):
        stage = run_stage("planar.report", SETTINGS, items=PROBLEMS, scale="digits")
        folder = Path("results/digits/planar")
        written.append(
            {
                str(path.relative_to(folder)): path.read_bytes()
                for part in ("figures", "tables", "report")
                for path in (folder / part).iterdir()
            }
        )
    assert written[0] == written[1]
    assert set(written[0]) == {
        *(f"figures/figure2.{ending}" for ending in ("md", "pdf", "svg", "png")),
        *("tables/planar.csv", "tables/planar.md", "report/verdict.json", "report/verdict.md"),
    }
    assert stage.name == "planar_report@digits"
    assert json.loads(written[0]["report/verdict.json"])["scale"] == "digits"


def test_a_broken_samples_file_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(prepare(tmp_path / "folder"))
    synthetic.write_samples("results", PROBLEMS)
    synthetic.write(SETTINGS, "results", PROBLEMS)
    path = Path("results/digits/planar/samples/moons.safetensors")
    for content in (b"", path.read_bytes()[:100]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"moons\.safetensors.*dvc repro planar@digits-moons") as error:
            run_stage("planar.report", SETTINGS, items=PROBLEMS, scale="digits")
        assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match=r"moons\.safetensors: not found"):
        run_stage("planar.report", SETTINGS, items=PROBLEMS, scale="digits")
