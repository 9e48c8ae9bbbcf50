"""The discrete problems' experiment, and the table, figure and verdicts made of its metrics."""

import json
import math

import pytest
import torch
from conftest import REPOSITORY
from safetensors.numpy import save_file

from mlegfn.config import load
from mlegfn.data import gray, planar
from mlegfn.errors import UserError
from mlegfn.experiments import discrete
from mlegfn.randomness import generator
from mlegfn.report import claims, verdict
from mlegfn.report import discrete as report

SMOKE = load(REPOSITORY / "params.yaml").scale("smoke").discrete


def test_the_kernel_is_exponential_in_the_hamming_distance():
    x, y = (torch.randint(2, (30, 32), generator=generator(0, k)) for k in "xy")
    kernel = [torch.exp(-0.1 * (a[:, None] != b[None]).sum(2).double()) for a, b in ((x, x), (y, y), (x, y))]
    within = sum((k.sum() - 30) / (30 * 29) for k in kernel[:2])
    # The library's exponentials are float32: 1e-7 of each.
    assert discrete.hamming_mmd(x, y) == pytest.approx((within - 2 * kernel[2].mean()).item(), abs=1e-6)


@pytest.mark.parametrize("arm", discrete.ARMS)
def test_fits_are_reproducible_and_count_what_they_evaluate(arm):
    seen = {"forward": 0, "backward": 0}
    plain = discrete.new_pair

    def counting(*arguments):
        pair = plain(*arguments)
        for name, policy in (("forward", pair.policy_f), ("backward", pair.policy_b)):
            if policy is not None:
                policy.register_forward_pre_hook(
                    lambda _, args, name=name: seen.update({name: seen[name] + len(args[0])})
                )
        return pair

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discrete, "new_pair", counting)
        pair, spent = discrete.fit("moons", arm, SMOKE, seed=3)
    assert seen == {name: spent[name] for name in seen}
    assert spent["points"] == SMOKE.steps * SMOKE.batch
    again, _ = discrete.fit("moons", arm, SMOKE, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(pair.parameters(), again.parameters()))


def test_training_learns_an_order_free_and_an_ordered_model():
    """60 steps take off most of what there is to learn, and the importance-weighted bound is above the ELBO."""
    settings = SMOKE.model_copy(
        update={"steps": 60, "batch": 256, "hidden": 32, "lr": 0.02, "times": 8, "test_points": 200}
    )
    settings = settings.model_copy(update={"arms": ["random", "ordered"], "seeds": [0]})
    metrics, samples = discrete.experiment("8gaussians", settings)
    uniform = 32 * math.log(2)
    for run in metrics["runs"]:
        assert run["nll"] - metrics["entropy"] < 0.5 * (uniform - metrics["entropy"])
        assert run["nll"] <= run["elbo_nll"] + 1e-9
    assert set(samples) == {"data", "random", "ordered"}


def metrics_files(
    folder, problems=("2spirals", "8gaussians", "circles", "pinwheel"), shift=None, seeds=(0, 1)
):
    """Metrics whose ordered arm lies ``shift`` {problem: nats} above EB-GFN's value, and the settings."""
    values = {"2spirals": 20.05, "8gaussians": 19.982, "circles": 20.546, "pinwheel": 19.554}
    shift = shift or {}
    for problem in problems:
        runs = [
            {
                "model": arm,
                "seed": seed,
                "trajectories": 1,
                "nll": values.get(problem, 20.0) + shift.get(problem, -0.001) + 1e-4 * seed,
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
        file = folder / "discrete" / "metrics" / "discrete" / f"{problem}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        floor = {"mean": 0.0, "standard_deviation": 1e-4, "quantile_95": 2e-4}
        value = {"entropy": gray.data_entropy(problem), "points": 5, "runs": runs, "mmd_floor": floor}
        file.write_text(json.dumps({**value, "mmd_points": 5, "mmd_kernel": "k"}))
        (folder / "discrete" / "discrete").mkdir(exist_ok=True)
        points = planar.sample(problem, 50, generator(0)).numpy()
        save_file(
            dict.fromkeys(("data", "learned", "ordered"), points),
            folder / "discrete" / "discrete" / f"{problem}.safetensors",
        )
    return SMOKE.model_copy(
        update={"problems": list(problems), "seeds": list(seeds), "arms": ["learned", "ordered"]}
    )


def mine():
    return claims.load(REPOSITORY / "claims.yaml", report="discrete")


def decided(folder, **how):
    settings = metrics_files(folder, **how)
    found = verdict.decide(report.Metrics("discrete", settings, folder), mine())
    return {row["id"]: row for row in found["claims"]}


def test_three_of_four_decide(tmp_path):
    row = decided(tmp_path / "a", shift={"circles": 0.1})["discrete-nll-ordered"]
    assert row["verdict"] == "reproduced" and "at 3 of 4" in row["detail"] and "entropy" in row["detail"]
    assert row["estimate"] == pytest.approx(-0.00095) and row["seeds"] == 2
    row = decided(tmp_path / "b", shift={"circles": 0.1, "pinwheel": 0.002})["discrete-nll-ordered"]
    assert row["verdict"] == "not reproduced" and row["where"] == "pinwheel"
    for problems, verdict_ in (
        (("2spirals", "8gaussians", "circles"), "reproduced"),
        (("moons", "circles"), "not tested at this scale"),
    ):
        row = decided(tmp_path / str(len(problems)), problems=problems, seeds=(0,))["discrete-nll-ordered"]
        assert row["verdict"] == verdict_
    assert decided(tmp_path / "c")["discrete-nll-random"]["verdict"] == "not tested at this scale"


def test_the_report_has_table_figure_and_verdicts(tmp_path):
    settings = metrics_files(tmp_path)
    files = report.make("discrete", settings, mine(), tmp_path)
    table = files["tables"]["discrete.md"]
    assert table.count("| learned P_B") == 4 and "19.982" in table and "slope" in table
    assert files["tables"]["discrete.csv"].count("\n") == 9
    assert files["figures"]["discrete.png"][:4] == b"\x89PNG"
    assert json.loads(files["report"]["discrete.json"])["scale"] == "discrete"
    file = tmp_path / "discrete" / "metrics" / "discrete" / "circles.json"
    value = json.loads(file.read_text())
    for broken in ({**value, "runs": value["runs"][1:]}, {k: v for k, v in value.items() if k != "entropy"}):
        file.write_text(json.dumps(broken))
        with pytest.raises(UserError, match="dvc repro discrete@discrete-circles"):
            report.make("discrete", settings, mine(), tmp_path)
    file.unlink()
    with pytest.raises(UserError, match="not found; the stage discrete@discrete-circles"):
        report.make("discrete", settings, mine(), tmp_path)
