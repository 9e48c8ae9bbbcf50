"""results/summary.json repeats the results, and nothing else."""

import json
import shutil
from pathlib import Path

from reproduction.site import summary

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_committed_summary_is_the_results():
    assert (REPOSITORY / summary.SUMMARY).read_text() == summary.render(REPOSITORY), (
        "run `python -m reproduction.site.summary`"
    )


def test_a_scale_without_results_is_left_out(tmp_path):
    assert summary.summary(tmp_path) == {}
    one, two = tmp_path / "results/one", tmp_path / "results/two"
    for folder in (one / "planar/tables", one / "images/tables", one / "images/report", two / "logs"):
        folder.mkdir(parents=True)
    shutil.copy(REPOSITORY / "results/digits/planar/tables/planar.csv", one / "planar/tables")
    (one / "images/tables/nll.csv").write_text("arm,step,bits_per_dim\nsimple,3,\nsimple_tbc,3,2.5\n")
    claims = [
        {"id": "a", "verdict": "reproduced", "estimate": -1.5},
        {"id": "b", "verdict": "open", "estimate": None},
    ]
    (one / "images/report/verdict.json").write_text(json.dumps({"claims": claims}))
    result = summary.summary(tmp_path)
    assert list(result) == ["one"] and result["one"]["nll"] == {"simple_tbc": {"3": 2.5}}
    assert set(result["one"]["planar"]["moons"]) >= {"ddpm", "mle_gfn"}
    assert result["one"]["claims"] == {
        "a": {"verdict": "reproduced", "estimate": -1.5},
        "b": {"verdict": "open"},
    }


def test_the_file_is_written_where_it_changes(tmp_path):
    summary.write(tmp_path)
    path = tmp_path / summary.SUMMARY
    assert path.read_text() == "{}\n"
    before = path.stat().st_mtime_ns
    summary.write(tmp_path)
    assert path.stat().st_mtime_ns == before
