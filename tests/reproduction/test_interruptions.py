"""Runs of the scale smoke that are interrupted in a training go on, and end as if nothing had happened."""

import signal
import time

import pytest

STAGE = "pretrain@smoke"


def long_training(checkout):
    """Settings with which pretraining takes seconds and saves its state all the time."""
    checkout.set("images.smoke.pretrain.seed", 5)
    checkout.set("images.smoke.pretrain.stop", 300)
    checkout.set("images.smoke.machine.save_every_minutes", 0.005)


def trained(checkout):
    """{path: content} of what pretraining made."""
    return {
        path: content
        for path, content in checkout.outputs().items()
        if "/baseline/" in path or "/pretrain/" in path
    }


@pytest.fixture(scope="module")
def undisturbed(smoke, tmp_path_factory):
    """What pretraining makes if nobody interrupts it."""
    checkout = smoke.copy(tmp_path_factory.mktemp("undisturbed") / "checkout")
    long_training(checkout)
    checkout.run("dvc", "repro", "--single-item", STAGE)
    return trained(checkout)


def interrupted(checkout, process):
    """Wait until the training has saved a state."""
    while not list((checkout.root / "results/smoke/images/scratch").glob(f"{STAGE}-*/[1-9]*/record.json")):
        assert process.poll() is None, checkout.said.read_text()
        time.sleep(0.02)


def ended(checkout):
    """A process that has saved and logged its end needs a moment to be gone."""
    deadline = time.monotonic() + 10
    while checkout.processes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["kill -9 of the whole tree", "SIGTERM", "Ctrl-C"])
def test_an_interrupted_run_goes_on(checkout, undisturbed, how):
    long_training(checkout)
    process = checkout.start("mlegfn", "reproduce", "--scale", "smoke", "--cores", "2")
    interrupted(checkout, process)
    if how == "kill -9 of the whole tree":
        checkout.kill()
        process.wait()
        (checkout.root / ".dvc/tmp/rwlock").write_text("")  # as a kill at the wrong moment leaves it
        assert {STAGE, "finetune@smoke-tbc", "images_report@smoke"} <= set(checkout.planned())
    else:
        number = signal.SIGTERM if how == "SIGTERM" else signal.SIGINT
        process.send_signal(number)
        assert process.wait() == 128 + number
        ended(checkout)
        assert checkout.log(STAGE).rstrip().rpartition("\n")[2].startswith("=== exit 75")
    again = checkout.start("mlegfn", "reproduce", "--scale", "smoke", "--cores", "2")
    while f"] {STAGE}" not in checkout.said.read_text():
        assert again.poll() is None, checkout.said.read_text()
        time.sleep(0.05)
    again.terminate()  # what follows is run by tests/reproduction/test_pipeline.py
    assert again.wait() == 128 + signal.SIGTERM
    ended(checkout)
    assert "resuming at step" in checkout.log(STAGE)
    assert trained(checkout) == undisturbed
