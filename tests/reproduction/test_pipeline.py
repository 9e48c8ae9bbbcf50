"""The scale smoke as a user runs it: what runs again, what is refused, what survives an interruption.

Its results are made once, in one process (helpers/one_process.py); what changes after that runs through Snakemake and DVC.
tests/reproduction/workflow/ runs from nothing, with two quick stages.
"""

import json
import re
import signal
import sys
import time

import pytest
from helpers.checkout import Checkout
from helpers.repository import REPOSITORY
from ruamel.yaml import YAML

TRAINING = "pretrain@smoke"
REPRODUCE = ("mlegfn", "reproduce", "--scale", "smoke", "--cores", "2")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A finished checkout of the scale smoke: copy it before you change anything."""
    checkout = Checkout.new(tmp_path_factory.mktemp("smoke") / "smoke")
    checkout.run(sys.executable, "-m", "helpers.one_process", "smoke")
    checkout.commit("smoke")
    return checkout


@pytest.fixture
def checkout(smoke, tmp_path):
    """A copy of the finished checkout, to change."""
    return smoke.copy(tmp_path / "checkout")


def test_every_stage_makes_what_dvc_yaml_names_and_nothing_is_left_to_do(smoke):
    made = smoke.outputs()
    for name in ("images/figures/figure1.png", "planar/figures/figure2.png", "images/figures/figure3.png",
                 "families/tables/table1.csv", "images/report/verdict.json", "gallery/figures/spiral.webp"):  # fmt: skip
        assert len(made[f"results/smoke/{name}"]) > 100
    assert "nothing to do, all 30 stages" in smoke.reproduce()
    assert "30 done, 0 stale" in smoke.run("mlegfn", "status", "--scale", "smoke")
    assert "as recorded" in smoke.run("mlegfn", "verify", "--scale", "smoke")
    assert smoke.git("status", "--porcelain", "--", "results", "dvc.lock", "data") == ""


def test_a_changed_weight_runs_its_arm_and_what_follows_by_dvc_alone_too(checkout):
    before = checkout.outputs()
    status = checkout.run("dvc", "status", TRAINING, "images_report@smoke")
    assert "up to date" in status and "WARN" not in status.upper()
    checkout.set("images.smoke.finetune.simple_tbc.weight", "[0.5, 0.6]")
    planned = checkout.planned()
    assert set(planned) == {
        "finetune@smoke-simple_tbc",
        "nll@smoke-simple_tbc",
        "trajectories@smoke",
        "quality@smoke",
        "images_report@smoke",
    }
    assert planned["finetune@smoke-simple_tbc"] == "params.yaml images.smoke.finetune.simple_tbc changed"
    assert planned["nll@smoke-simple_tbc"] == "follows finetune@smoke-simple_tbc"
    summary = json.loads((checkout.root / "results/summary.json").read_text())["smoke"]
    assert summary["planar"]["moons"]["mle_gfn"] > 0
    # An experiment of DVC runs the first of the five, with another weight, `reproduce` the last; those between run in one
    # process. DVC's other commands: tests/reproduction/workflow/test_engines.py.
    first, *between, last = planned
    other = "images.smoke.finetune.simple_tbc.weight=[0.02,0.03]"
    said = checkout.run("dvc", "exp", "run", "-S", other, first)
    assert "WARN" not in said.upper()
    metric = checkout.root / "results/smoke/images/metrics/finetune/simple_tbc/4-0.json"
    assert re.search(r'"lambda": 0.0[23],', metric.read_text())
    left = YAML(typ="safe").load((checkout.root / "params.yaml").read_text())["images"]
    assert (
        left["digits"] == YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())["images"]["digits"]
    )
    checkout.run(sys.executable, "-m", "helpers.one_process", "smoke", *between)
    said = checkout.reproduce()
    assert last == "images_report@smoke" and "1 of 30 stages to run" in said
    assert "up to date" in checkout.run("dvc", "status", *planned)
    changed = {path for path, content in checkout.outputs().items() if before.get(path) != content}
    assert all("/images/" in path for path in changed)
    assert not any(f"/{arm}/" in path for path in changed for arm in ("simple", "reweighted", "baseline"))
    assert any(path.startswith("results/smoke/images/metrics/nll/simple_tbc/") for path in changed)
    assert any(path.startswith("results/smoke/images/report/") for path in changed)


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


def long_training(checkout):
    """Settings with which pretraining takes seconds and saves its state all the time."""
    checkout.set("images.smoke.pretrain.seeds", "[5]")
    checkout.set("images.smoke.trajectories.pretrain_seed", 5)
    checkout.set("images.smoke.finetune.all.search.seed", 5)
    checkout.set("images.smoke.pretrain.stop", 400)
    checkout.set("images.smoke.machine.save_every_minutes", 0.005)


def trained(checkout):
    """{path: content} of what pretraining made."""
    return {
        path: content
        for path, content in checkout.outputs().items()
        if "/baseline/" in path or "/pretrain/" in path
    }


def until(condition, process, checkout):
    """Wait for ``condition()`` while the process runs."""
    while not condition():
        assert process.poll() is None, checkout.said.read_text()
        time.sleep(0.02)


def ended(checkout):
    """A process that has saved and logged its end needs a moment to be gone."""
    deadline = time.monotonic() + 10
    while checkout.processes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_interrupted_in_every_way_goes_on_and_ends_as_if_nothing_had_happened(
    smoke, checkout, tmp_path
):
    undisturbed = smoke.copy(tmp_path / "undisturbed")
    long_training(undisturbed)
    undisturbed.run("mlegfn", "stage", "images.pretrain", "smoke")

    long_training(checkout)
    run = checkout.start(*REPRODUCE)
    saved = checkout.root / "results/smoke/images/scratch"
    until(lambda: list(saved.glob(f"{TRAINING}-*/[1-9]*/record.json")), run, checkout)
    second = checkout.reproduce(code=2)
    assert "another `mlegfn reproduce`" in second and len(second.splitlines()) == 1
    checkout.kill()
    run.wait()
    (checkout.root / ".dvc/tmp/rwlock").write_text("")  # as a kill at the wrong moment leaves it

    for number, resumed in ((signal.SIGTERM, 1), (signal.SIGINT, 2)):
        run = checkout.start(*REPRODUCE)
        until(lambda times=resumed: checkout.log(TRAINING).count("resuming at step") == times, run, checkout)
        run.send_signal(number)
        assert run.wait() == 128 + number
        ended(checkout)
        assert checkout.log(TRAINING).rstrip().rpartition("\n")[2].startswith("=== exit 75")

    checkout.run("dvc", "repro", "--quiet", "--single-item", TRAINING)  # what follows is run above
    assert checkout.log(TRAINING).count("resuming at step") == 3
    assert trained(checkout) == trained(undisturbed)
