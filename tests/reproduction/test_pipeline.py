"""The scale smoke from end to end, as a user runs it: what runs again, what is refused, what survives an interruption."""

import time

import pytest

IMAGES_AFTER_TBC = {
    "finetune@smoke-tbc",
    "nll@smoke-tbc",
    "trajectories@smoke",
    "quality@smoke",
    "images_report@smoke",
}


def test_everything_is_made_and_nothing_is_left_to_do(smoke):
    made = smoke.outputs()
    for name in ("images/figures/figure1.png", "planar/figures/figure2.png", "images/figures/figure3.png",
                 "families/tables/table1.csv", "images/report/verdict.json", "gallery/figures/spiral.webp"):  # fmt: skip
        assert len(made[f"results/smoke/{name}"]) > 100
    assert smoke.planned() == {}
    assert "nothing to do" in smoke.reproduce()
    assert "30 done, 0 stale" in smoke.run("mlegfn", "status", "--scale", "smoke")
    assert "as recorded" in smoke.run("mlegfn", "verify", "--scale", "smoke")


def test_git_sees_no_change_after_a_run_with_nothing_to_do(smoke):
    smoke.reproduce()
    assert smoke.git("status", "--porcelain", "--", "results", "dvc.lock", "data") == ""


def test_dvcs_own_commands_work_without_warnings(checkout):
    status = checkout.run("dvc", "status", *(f"{name}@smoke" for name in ("pretrain", "images_report")))
    assert "up to date" in status and "WARN" not in status.upper()
    checkout.set("images.smoke.finetune.tbc.weight", 0.5)
    assert "images.smoke.finetune.tbc.weight" in checkout.run("dvc", "params", "diff")
    assert "smoke.planar.moons.mle_gfn" in checkout.run("dvc", "metrics", "diff", "--all")
    assert "finetune@smoke-tbc" in checkout.run("dvc", "dag")
    said = checkout.run("dvc", "exp", "run", "-S", "images.smoke.finetune.tbc.weight=0.01", "nll@smoke-tbc")
    assert "WARN" not in said.upper()
    assert (
        '"lambda": 0.01' in (checkout.root / "results/smoke/images/metrics/finetune/tbc/4-0.json").read_text()
    )
    assert "weight: 0.0001" in (checkout.root / "params.yaml").read_text(), "another scale's λ must stay"


def test_a_changed_weight_runs_its_arm_and_what_follows(checkout):
    before = checkout.outputs()
    checkout.set("images.smoke.finetune.tbc.weight", 0.5)
    planned = checkout.planned()
    assert set(planned) == IMAGES_AFTER_TBC
    assert planned["finetune@smoke-tbc"] == "params.yaml images.smoke.finetune.tbc changed"
    assert planned["nll@smoke-tbc"] == "follows finetune@smoke-tbc"
    said = checkout.reproduce()
    assert "5 of 30 stages to run" in said and checkout.planned() == {}
    changed = {path for path, content in checkout.outputs().items() if before.get(path) != content}
    assert all("/images/" in path for path in changed)
    assert not any("/simple/" in path or "/vlb/" in path or "/baseline/" in path for path in changed)
    assert any(path.startswith("results/smoke/images/metrics/nll/tbc/") for path in changed)


def test_a_new_seed_costs_only_itself(checkout):
    before = checkout.outputs()
    path = checkout.root / "params.yaml"
    head, mark, rest = path.read_text().partition("\n  smoke:\n    machine:")
    path.write_text(head + mark + rest.replace("seeds: [0, 1]", "seeds: [0, 1, 2]", 1))
    checkout.run("dvc", "repro", "--single-item", "finetune@smoke-simple")
    after = checkout.outputs()
    folder = "results/smoke/images/metrics/finetune/simple/"
    assert {p for p in after if p.startswith(folder)} - set(before) == {
        f"{folder}4-2.json",
        f"{folder}8-2.json",
    }
    assert all(after[p] == content for p, content in before.items())
    last_run = checkout.log("finetune@smoke-simple").rpartition("\n=== 2")[2]
    assert "seed 2" in last_run and "seed 0" not in last_run, "finished parts must not be trained again"


def test_a_missing_claims_file_is_no_success(checkout):
    (checkout.root / "claims/planar.yaml").unlink()
    record = checkout.root / "results/smoke/planar/provenance/planar_report@smoke.json"
    before = record.read_bytes()
    said = checkout.reproduce(code=2)
    assert "planar_report@smoke" in said and "claims/planar.yaml" in said and "Traceback" not in said
    assert record.read_bytes() == before


def test_an_input_that_its_producer_did_not_record_is_refused(checkout):
    file = checkout.root / "results/smoke/planar/metrics/moons.json"
    file.write_text(file.read_text().replace("nll", "nil", 1))
    said = checkout.run("mlegfn", "stage", "planar.report", "smoke", code=2)
    assert "results/smoke/planar/metrics/moons.json" in said and "planar@smoke-moons" in said


@pytest.mark.parametrize("path, old, new", [
    ("params.yaml", "mmd_points: 16\n    mmd_repeats: 4", "mmd_points: 16\n    mmd_repeats: 5"),
    ("src/reproduction/planar/train.py", '"""', '"""Edited. '),
], ids=["settings", "code"])  # fmt: skip
def test_a_stage_fails_if_what_it_depends_on_changes_while_it_runs(checkout, path, old, new):
    checkout.set("planar.smoke.pretrain_steps", 900)
    process = checkout.start("mlegfn", "stage", "planar.train", "smoke", "moons")
    while (
        "process" not in checkout.log("planar@smoke-moons").rpartition("\n=== 2")[2]
        or "pretrain" not in checkout.said.read_text()
    ):
        assert process.poll() is None
        time.sleep(0.02)
    text = (checkout.root / path).read_text()
    (checkout.root / path).write_text(text.replace(old, new, 1))
    assert process.wait() == 2
    assert "changed while it ran" in checkout.said.read_text()


def test_a_second_run_in_the_same_checkout_is_refused_in_one_line(checkout):
    checkout.set("planar.smoke.pretrain_steps", 30)
    first = checkout.start("mlegfn", "reproduce", "--scale", "smoke", "--cores", "2")
    while "stages to run" not in checkout.said.read_text():
        assert first.poll() is None
        time.sleep(0.05)
    said = checkout.reproduce(code=2)
    assert "another `mlegfn reproduce`" in said and len(said.splitlines()) == 1
    first.terminate()
    assert first.wait() in (143, -15)


def test_a_comment_is_accepted_without_running_anything(checkout):
    before = checkout.outputs()
    source = checkout.root / "src/reproduction/planar/train.py"
    source.write_text(source.read_text() + "# a comment\n")
    assert set(checkout.planned()) == {
        "planar@smoke-moons",
        "planar@smoke-checkerboard",
        "planar_report@smoke",
    }
    checkout.run("mlegfn", "accept", "planar@smoke-moons", "planar@smoke-checkerboard")
    assert checkout.planned() == {} and checkout.outputs() == before
    checkout.set("planar.smoke.seeds", "[0, 1]  #")  # no change of value
    assert checkout.planned() == {}
