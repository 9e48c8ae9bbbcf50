"""The table, the figure and the verdicts of the planar problems as bits, from metrics that are made up here."""

import json
from pathlib import Path

import pytest
from helpers.parts import prepare, run_stage, settings_of
from helpers.repository import REPOSITORY
from safetensors.numpy import save_file

from mlegfn.data import gray, planar
from mlegfn.errors import UserError
from mlegfn.randomness import generator
from reproduction.bits.report.evidence import KINDS, TESTS
from reproduction.bits.report.metrics import Metrics
from reproduction.bits.settings import Bits
from reproduction.verdicts import claims, verdict

FOUR = ("2spirals", "8gaussians", "circles", "pinwheel")
PUBLISHED = {"2spirals": 20.05, "8gaussians": 19.982, "circles": 20.546, "pinwheel": 19.554}
CLAIMS = claims.load(REPOSITORY / "claims/bits.yaml", KINDS)


def settings(seeds=(0, 1)):
    return settings_of(Bits, "bits").model_copy(update={"seeds": list(seeds), "arms": ["learned", "ordered"]})


def write(root, problems=FOUR, shift=None, seeds=(0, 1)):
    """Metrics and samples whose arms lie ``shift`` {problem: nats} above EB-GFN's value."""
    folder, shift = Path(root, "discrete", "bits"), shift or {}
    for name in ("metrics", "samples"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for problem in problems:
        runs = [
            {
                "model": arm,
                "seed": seed,
                "trajectories": 1,
                "nll": PUBLISHED.get(problem, 20.0) + shift.get(problem, -0.001) + 1e-4 * seed,
                "elbo_nll": 21.0,
                "nll_standard_error": 0.002,
                "log_w_variance": 0.1,
                "mmd": 1e-4,
                "order": [16.5] * 32,
                "evaluations": {"points": 128, "trajectories": 128, "forward": 512, "backward": 0},
            }
            for arm in ("learned", "ordered")
            for seed in seeds
        ]
        floor = {"mean": 0.0, "standard_deviation": 1e-4, "quantile_95": 2e-4}
        value = {"entropy": gray.data_entropy(problem), "points": 5, "runs": runs, "mmd_floor": floor}
        (folder / "metrics" / f"{problem}.json").write_text(
            json.dumps({**value, "mmd_points": 5, "mmd_kernel": "k"})
        )
        points = planar.sample(problem, 50, generator(0)).numpy()
        save_file(
            dict.fromkeys(("data", "learned", "ordered"), points),
            folder / "samples" / f"{problem}.safetensors",
        )


def decided(root, problems=FOUR, seeds=(0, 1), **how):
    """{claim id: its verdict's row}."""
    write(root, problems, seeds=seeds, **how)
    report = verdict.decide(Metrics("discrete", settings(seeds), problems, root), CLAIMS, TESTS)
    return {row["id"]: row for row in report["claims"]}


def test_three_of_four_decide(tmp_path):
    row = decided(tmp_path / "a", shift={"circles": 0.1})["discrete-nll-ordered"]
    assert row["verdict"] == "reproduced" and "entropy" in row["detail"]
    assert row["detail"].startswith("reproduced at 3, undecided at 0, refuted at 0 of 3 problems")
    assert row["estimate"] == pytest.approx(-0.00095) and row["seeds"] == 2
    for pinwheel, expected in ((0.02, "refuted"), (1e-4, "undecided"), (-1e-4, "undecided")):
        shift = {"circles": 0.1, "pinwheel": pinwheel}
        row = decided(tmp_path / f"b {pinwheel}", shift=shift)["discrete-nll-ordered"]
        assert row["verdict"] == expected and row["where"] == "pinwheel"
    for problems, expected in (
        (("2spirals", "8gaussians", "circles"), "reproduced"),
        (("moons", "circles"), "not tested at this scale"),
    ):
        shift = dict.fromkeys(FOUR, -0.01)
        row = decided(tmp_path / str(len(problems)), problems, seeds=(0,), shift=shift)[
            "discrete-nll-ordered"
        ]
        assert row["verdict"] == expected
    assert decided(tmp_path / "c")["discrete-nll-random"]["verdict"] == "not tested at this scale"


def test_one_seed_is_flagged(tmp_path):
    """The estimate, −0.001, is not beyond the standard error of the test points, 0.002."""
    row = decided(tmp_path, seeds=(3,))["discrete-nll-ordered"]
    assert row["verdict"] == "undecided"
    assert "one seed: the interval covers the test points only" in row["detail"]


def test_one_value_without_an_error_decides_nothing(tmp_path):
    several = decided(tmp_path / "several", ("checkerboard",))["discrete-mmd-ordered"]
    assert several["verdict"] == "reproduced"
    one = decided(tmp_path / "one", ("checkerboard",), seeds=(3,))["discrete-mmd-ordered"]
    assert one["verdict"] == "not tested at this scale" and "checkerboard (one seed)" in one["detail"]


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"at_least": 5}, "test.at_least: must be at most the number of values, 4"),
        ({"model": "sorted"}, "test.model: expected one of random,"),
        ({"values": {"mars": 1.0}}, "test.values"),
        ({"estimate": 3}, "test.estimate: unknown setting"),
    ],
)
def test_a_claim_that_is_wrong_is_one_line(tmp_path, wrong, said):
    test = {
        "kind": "discrete_at_most",
        "model": "ordered",
        "metric": "nll",
        "values": PUBLISHED,
        "at_least": 3,
    }
    claim = {"claim": "c", "paper": "p", "source": "s", "scales": None, "test": {**test, **wrong}}
    (tmp_path / "claims.yaml").write_text(json.dumps({"one": claim}))
    with pytest.raises(UserError) as error:
        claims.load(tmp_path / "claims.yaml", KINDS)
    assert said in str(error.value)


def test_the_stage_writes_table_figure_and_verdicts(tmp_path, monkeypatch):
    monkeypatch.chdir(prepare(tmp_path / "folder"))
    write("results")
    written = []
    for _ in range(2):
        stage = run_stage("bits.report", settings(), items=FOUR, scale="discrete")
        folder = Path("results/discrete/bits")
        written.append(
            {
                str(path.relative_to(folder)): path.read_bytes()
                for part in ("tables", "figures", "report")
                for path in (folder / part).iterdir()
            }
        )
    assert stage.name == "bits_report@discrete" and written[0] == written[1]
    assert set(written[0]) == {
        *("tables/bits.csv", "tables/bits.md", "report/verdict.json", "report/verdict.md"),
        *(f"figures/bits.{ending}" for ending in ("md", "pdf", "svg", "png")),
    }
    table = written[0]["tables/bits.md"].decode()
    assert table.count("| learned P_B") == 4 and "19.982" in table and "slope" in table
    assert written[0]["tables/bits.csv"].count(b"\n") == 9
    assert written[0]["figures/bits.png"][:4] == b"\x89PNG"
    assert json.loads(written[0]["report/verdict.json"])["scale"] == "discrete"


def test_bad_metrics_say_what_makes_them(tmp_path):
    write(tmp_path)
    file = tmp_path / "discrete/bits/metrics/circles.json"
    value = json.loads(file.read_text())
    for broken in ({**value, "runs": value["runs"][1:]}, {k: v for k, v in value.items() if k != "entropy"}):
        file.write_text(json.dumps(broken))
        with pytest.raises(UserError, match=r"circles\.json.*dvc repro bits@discrete-circles"):
            Metrics("discrete", settings(), FOUR, tmp_path)
    file.unlink()
    with pytest.raises(UserError, match="not found; the stage bits@discrete-circles"):
        Metrics("discrete", settings(), FOUR, tmp_path)
