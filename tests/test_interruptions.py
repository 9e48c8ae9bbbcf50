"""The scale smoke end to end: killed in the middle of a segment, and on two ranks."""

import json
import os
import re
import signal

import pytest
from killed import interrupted

pytestmark = pytest.mark.again
STEPS = 160  # of the segment that is interrupted: some seconds, as each is saved


def tracked(checkout):
    """{path: bytes} of all results that git tracks, and of the interrupted segment's checkpoint."""
    root = checkout.root / "results" / "smoke"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for kind in ("metrics", "tables", "figures", "report", f"checkpoints/pretrain-{STEPS}")
        for path in sorted((root / kind).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def longer(snakemade, tmp_path_factory):
    """A checkout whose last segment of pretraining is long, saves its state often, and has not run yet."""
    checkout = snakemade.duplicate(tmp_path_factory.mktemp("longer") / "checkout")
    checkout.edit("params.yaml", "stop: 12", f"stop: {STEPS}")
    checkout.edit("params.yaml", "save_every_minutes: 1.0", "save_every_minutes: 0.0001")
    checkout.edit("params.yaml", "dropout: 0.0\n    diffusion", "dropout: 0.1\n    diffusion")
    few = (  # of all that follows from the segment
        (
            "      - 0\n      - 1\n      arms:\n      - simple\n      - tbc\n      steps: 4",
            "      - 0\n      arms:\n      - simple\n      - tbc\n      steps: 4",
        ),
        ("      checkpoints:\n      - 4\n      - 8\n", "      checkpoints:\n      - 4\n"),
        ("      checkpoint: 8\n", "      checkpoint: 4\n"),
    )
    for before, after in few:
        checkout.edit("params.yaml", before, after)
    return checkout


@pytest.fixture(scope="module")
def undisturbed(longer, tmp_path_factory):
    checkout = longer.duplicate(tmp_path_factory.mktemp("undisturbed") / "checkout")
    checkout.run("mlegfn", "reproduce", "--scale", "smoke", "--cores", "2")
    return tracked(checkout)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="finds the process tree in /proc")
def test_sigterm_and_sigkill_in_a_segment_leave_no_trace(longer, undisturbed, tmp_path):
    """SIGTERM to the whole tree, then kill -9 further on, then the rest: every byte is the undisturbed run's."""
    checkout = longer.duplicate(tmp_path / "checkout")
    command = ("mlegfn", "reproduce", "--scale", "smoke", "--cores", "2")

    def saved():
        folders = checkout.root.glob(f"results/smoke/scratch/pretrain-{STEPS}-*/[0-9]*")
        return max((int(folder.name) for folder in folders), default=0)

    code, said = interrupted(checkout, command, signal.SIGTERM, lambda: saved() > 10)
    assert code == 128 + signal.SIGTERM and "Traceback" not in said
    log = checkout.root / "results" / "smoke" / "logs" / f"pretrain@smoke-{STEPS}.log"
    stopped = int(re.search(r"asked to stop at step (\d+); the state is saved", log.read_text())[1])
    assert saved() == stopped and 10 < stopped < STEPS
    assert re.search(r"=== exit 75 ", log.read_text())
    assert not (checkout.root / "results" / "smoke" / "checkpoints" / f"pretrain-{STEPS}").exists()

    code, _ = interrupted(checkout, command, signal.SIGKILL, lambda: saved() > stopped + 10)
    assert code == -signal.SIGKILL and stopped < saved() < STEPS

    checkout.run(*command)
    assert f"resuming at step {stopped} from" in log.read_text()
    assert log.read_text().count("resuming at step") == 2
    assert tracked(checkout) == undisturbed
    assert not list(checkout.root.glob(f"results/smoke/scratch/pretrain-{STEPS}-*"))


def numbers(value, path=()):
    """Every number in a JSON value with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(inner, (*path, index))
    elif isinstance(value, int | float):
        yield path, value


def test_smoke_on_two_ranks_is_smoke(pristine, snakemade, tmp_path):
    """Trainings and NLL stages of one seed as two gloo processes: the same numbers in every metric to rounding."""
    checkout = pristine.duplicate(tmp_path / "checkout")
    checkout.environment["MLEGFN_RANKS"] = "2"
    wanted = "results/smoke/metrics/nll/8-tbc-0.json"  # after two segments of pretraining
    checkout.run("snakemake", "--cores", "4", "--config", "scale=smoke", "--", wanted)
    made = sorted((checkout.root / "results/smoke/metrics").rglob("*.json"))
    assert {file.parent.name for file in made} == {"pretrain", "finetune", "nll"} and len(made) == 4
    for file in made:
        one = dict(numbers(json.loads((snakemade.root / file.relative_to(checkout.root)).read_text())))
        two = dict(numbers(json.loads(file.read_text())))
        assert one.keys() == two.keys()
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6), file.name
        losses = {path: value for path, value in one.items() if path[-1] == "loss"}
        assert {path: two[path] for path in losses} == pytest.approx(losses, rel=1e-5)
