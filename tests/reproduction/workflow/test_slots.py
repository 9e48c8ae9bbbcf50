"""GPU slots: several jobs on machines that have no GPU, with devices that are named."""

import os
import subprocess
import sys

import pytest
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.workflow import slots


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch, tmp_path):
    """Nothing of the machine that runs the tests, and lock files of the test's own."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "MLEGFN_GPUS", "MLEGFN_SHARE_GPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


JOB = """
import os, sys
from reproduction.workflow import slots
slots.POLL_S = 0.05
with slots.claim(int(sys.argv[1])):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def job():
    """Start a job that takes ``count`` GPUs and keeps them until its stdin is closed."""
    started = []

    def start(count=1, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", JOB, str(count)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "MLEGFN_GPUS": "0,1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def test_three_jobs_on_two_devices_never_share_one(job):
    first, second = job(), job()
    taken = [first.stdout.readline().strip(), second.stdout.readline().strip()]
    assert sorted(taken) == ["0", "1"]
    third = job()
    assert "waiting for a GPU" in third.stderr.readline()
    second.stdin.close()
    assert third.stdout.readline().strip() == taken[1]
    third.stdin.close()
    assert third.wait(20) == 0 and third.stderr.read() == "", "one line is enough"


def test_a_killed_job_frees_its_device(job):
    first = job(MLEGFN_GPUS="a")
    assert first.stdout.readline() == "a\n"
    second = job(MLEGFN_GPUS="a")
    assert "waiting" in second.stderr.readline()
    first.kill()
    assert second.stdout.readline() == "a\n"


def test_several_jobs_may_share_a_device_if_told_so(job):
    first = job(MLEGFN_GPUS="a", MLEGFN_SHARE_GPU="1")
    assert first.stdout.readline() == "a\n"
    second, other = job(MLEGFN_GPUS="a", MLEGFN_SHARE_GPU="1"), job(MLEGFN_GPUS="a,b", MLEGFN_SHARE_GPU="1")
    assert second.stdout.readline() == "a\n"
    assert other.stdout.readline() == "b\n", "a free one comes first"


def test_a_job_that_waits_for_two_devices_holds_none(job):
    first = job()
    taken = first.stdout.readline()
    both = job(2)
    assert "waiting for 2 GPUs" in both.stderr.readline()
    single = job()
    assert {taken, single.stdout.readline()} == {"0\n", "1\n"}
    first.stdin.close()
    single.stdin.close()
    assert both.stdout.readline() == "0,1\n"


LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa1111-0000-0000-0000-000000000000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb2222-0000-0000-0000-000000000000)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-cccc3333-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-dddd4444-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  1: (UUID: MIG-eeee5555-0000-0000-0000-000000000000)
"""


@pytest.mark.parametrize(
    "visible, tokens, keys",
    [
        (None, ["0", "1", "MIG-dddd", "MIG-eeee"], ["GPU-aaaa", "GPU-bbbb", "MIG-dddd", "MIG-eeee"]),
        ("1,0", ["1", "0"], ["GPU-bbbb", "GPU-aaaa"]),
        ("GPU-bbbb", ["1"], ["GPU-bbbb"]),
        ("MIG-eeee5555-0000-0000-0000-000000000000", ["MIG-eeee"], ["MIG-eeee"]),
        ("0,9,1", ["0"], ["GPU-aaaa"]),  # as CUDA: nothing after one that is not there
        ("", [], []),
        ("-1", [], []),
    ],
)
def test_visible_devices_are_locked_by_uuid(monkeypatch, visible, tokens, keys):
    """Two names of one device (an index here, a UUID there) must lead to one lock."""
    monkeypatch.setattr(slots, "installed", lambda: slots.listed(LISTED))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = slots.devices()
    assert [device.token[:8] if "-" in device.token else device.token for device in found] == tokens
    assert [device.key[:8] for device in found] == keys


def test_without_a_driver_slurms_numbers_are_of_its_job(monkeypatch):
    """SLURM may number the devices of each job from 0: the same number is another device in another job."""
    monkeypatch.setattr(slots, "installed", list)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    alone = slots.devices()[0].key
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert slots.devices()[0].key != alone


@pytest.mark.parametrize(
    "named, count, said",
    [
        ("", 1, "names no GPU"),
        (" , ", 1, "names no GPU"),
        ("0,0", 1, "names a GPU twice"),
        ("0,1", 3, "3 GPUs wanted, 2 visible"),
        (None, 1, "none is visible"),
    ],
)
def test_slots_that_cannot_be_had(monkeypatch, named, count, said):
    monkeypatch.setattr(slots, "installed", list)
    if named is not None:
        monkeypatch.setenv("MLEGFN_GPUS", named)
    with pytest.raises(UserError, match=said) as error, slots.claim(count):
        pass
    assert "\n" not in str(error.value)


def test_a_device_is_chosen_before_torch_is_imported():
    code = "import sys, reproduction.workflow.stage, reproduction.workflow.slots; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
