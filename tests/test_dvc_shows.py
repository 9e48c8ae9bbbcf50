"""`dvc metrics` and `dvc plots`: every scale's numbers, NLL by arm, and the figures."""

import json
import shutil

from conftest import REPOSITORY

from mlegfn.report import summary


def test_the_committed_summary_is_the_results():
    assert (REPOSITORY / summary.SUMMARY).read_text() == summary.render(REPOSITORY)


def test_metrics_and_plots(snakemade, tmp_path):
    checkout = snakemade.duplicate(tmp_path / "checkout")
    checkout.run("git", "add", "-A")
    checkout.run("git", "-c", "user.name=test", "-c", "user.email=test@test", "commit", "-qm", "results")
    shown = json.loads(checkout.run("mlegfn", "dvc", "metrics", "show", "--json").stdout)
    (found,) = (each["data"] for each in shown[""]["data"].values())
    smoke = found["smoke"]
    assert smoke["nll"].keys() == {"baseline", "simple", "tbc"}
    row = (checkout.root / "results/smoke/tables/nll.csv").read_text().splitlines()[1].split(",")
    assert row[1] == "baseline" and smoke["nll"]["baseline"][row[2]] == float(row[6])
    verdicts = json.loads((checkout.root / "results/smoke/report/verdict.json").read_text())["claims"]
    assert {each["id"]: each["verdict"] for each in verdicts}.items() <= {
        name: claim["verdict"] for name, claim in smoke["claims"].items()
    }.items()

    checkout.edit("results/summary.json", f'"{row[2]}": {float(row[6])}', f'"{row[2]}": 1.5')
    changed = json.loads(checkout.run("mlegfn", "dvc", "metrics", "diff", "--json").stdout)
    assert changed["results/summary.json"] == {
        f"smoke.nll.baseline.{row[2]}": {"old": float(row[6]), "new": 1.5, "diff": 1.5 - float(row[6])}
    }

    checkout.run("mlegfn", "dvc", "plots", "show", "--out", "plots")
    page = (checkout.root / "plots/index.html").read_text()
    figures = {path.name for path in (checkout.root / "results/smoke/figures").glob("*.png")}
    pictures = {path.name.split("_")[-1] for path in (checkout.root / "plots/static").iterdir()}
    assert pictures == figures and len(figures) >= 10
    assert '"color": {"field": "arm"' in page and '"bits_per_dim": ' in page


def test_a_scale_without_results_is_left_out(tmp_path):
    assert summary.summary(tmp_path) == {}
    folder = tmp_path / "results/one/tables"
    folder.mkdir(parents=True)
    (tmp_path / "results/two/logs").mkdir(parents=True)
    shutil.copy(REPOSITORY / "results/digits/tables/planar.csv", folder)
    (folder / "nll.csv").write_text("arm,step,bits_per_dim\nsimple,3,\ntbc,3,2.5\n")
    found = summary.summary(tmp_path)
    assert list(found) == ["one"] and found["one"]["nll"] == {"tbc": {"3": 2.5}}
    assert set(found["one"]["planar"]["moons"]) >= {"ddpm", "mle_gfn"}
