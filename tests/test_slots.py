"""GPU slots and ranks: several jobs and several processes a job, on machines that have no GPU."""

import os
import re
import subprocess
import sys

import killed
import pytest
from clusters import forget_this_machine, wait_for
from conftest import REPOSITORY

from mlegfn import cli
from mlegfn.errors import UserError
from mlegfn.pipeline import engine, ranks, slots, snakemake_dvc


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    forget_this_machine(monkeypatch, tmp_path)


# GPU slots

JOB = """
import os, sys
from mlegfn.pipeline.slots import claim
with claim(int(sys.argv[1])):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path):
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
    assert job(MLEGFN_GPUS="a", MLEGFN_SHARE_GPU="1").stdout.readline() == "a\n"
    other = job(MLEGFN_GPUS="a,b", MLEGFN_SHARE_GPU="1")
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
    assert [d.token[:8] if "-" in d.token else d.token for d in found] == tokens
    assert [d.key[:8] for d in found] == keys


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
    code = "import sys, mlegfn.pipeline.stage, mlegfn.pipeline.slots; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / "src").returncode == 0


# Ranks

RANK = """
import os, signal, sys, time
rank = int(os.environ["RANK"])
def stop(signum, _):
    time.sleep(0.2)
    os._exit(75)
action = sys.argv[1].split(",")[rank]
if action == "environment":
    keys = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    with open(f"rank{rank}", "w") as file:
        print(*(os.environ[key] for key in keys), file=file)
elif action == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif action in ("hang", "save", "stubborn"):
    if action != "hang":
        signal.signal(signal.SIGTERM, stop if action == "save" else signal.SIG_IGN)
    open(f"rank{rank}", "w").close()
    time.sleep(60)
else:
    sys.exit(int(action))
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package mlegfn whose command line does what a rank may do; the working directory is its own."""
    package = tmp_path / "toy" / "mlegfn"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(RANK)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ranks, "LAST_WORDS_S", 0.3)
    return tmp_path


def test_every_rank_is_told_which_it_is(toy):
    assert ranks.run(["environment,environment"], 2) == 0
    first, second = ((toy / f"rank{rank}").read_text().split() for rank in (0, 1))
    assert first[:4] == ["0", "0", "2", "127.0.0.1"] and second[:4] == ["1", "1", "2", "127.0.0.1"]
    assert first[4] == second[4], "they meet at one port"


@pytest.mark.parametrize(
    "actions, code",
    [
        ("0,0", 0),
        ("0,2", 2),
        ("1,hang", 1),  # the other would wait for it for ever
        ("75,75", 75),
        ("75,0", 75),
        ("kill,hang", 75),  # as a stage that died without a word: it may be tried again
        ("75,1", 1),
    ],
)
def test_one_exit_code_for_all_ranks(toy, monkeypatch, actions, code):
    monkeypatch.setenv("MLEGFN_GRACE", "1")
    assert ranks.run([actions], 2) == code


@pytest.mark.parametrize("actions", ["save,save", "save,stubborn"])
def test_a_request_to_stop_reaches_every_rank(toy, actions):
    """The launcher waits for those that save, and kills one that does not end."""
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'src')!r}); from mlegfn.pipeline import ranks;"
        f"sys.exit(ranks.run([{actions!r}], 2))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "MLEGFN_GRACE": "1"})
    wait_for(lambda: (toy / "rank0").exists() and (toy / "rank1").exists())
    processes = killed.tree(launcher.pid)
    assert len(processes) == 3
    launcher.terminate()
    assert launcher.wait(20) == 75
    assert not any(os.path.exists(f"/proc/{pid}") for pid in processes)


@pytest.mark.parametrize("text", ["x", "0", "-1", "1.5", "2 3"])
def test_ranks_that_are_no_number(text, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert cli.main(["reproduce", "--scale", "smoke", "--ranks", text]) == 2
    assert re.fullmatch(r"mlegfn: RANKS=.*\n", capsys.readouterr().err)


def test_more_ranks_than_devices_are_refused(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("MLEGFN_GPUS", "0,1")
    assert cli.main(["reproduce", "--scale", "cifar10-hour", "--ranks", "3"]) == 2
    assert re.fullmatch(r"mlegfn: RANKS=3: only 2 GPU.*\n", capsys.readouterr().err)


def test_snakemake_counts_a_rank_as_a_gpu_or_as_a_thread(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("MLEGFN_RANKS", "2")
    on_gpu, on_cpu = engine.read("cifar10-hour").stages, engine.read("smoke").stages

    def threads_and_gpus(stage):
        threads, resources = snakemake_dvc.resources(stage)
        return threads, resources.get("gpu", 0)

    assert threads_and_gpus(on_gpu["pretrain@cifar10-hour-2000"]) == (1, 2)
    assert threads_and_gpus(on_gpu["trajectories@cifar10-hour"]) == (1, 1)
    assert threads_and_gpus(on_cpu["pretrain@smoke-4"]) == (2, 0)
    assert threads_and_gpus(on_cpu["figures@smoke"]) == (1, 0)
    monkeypatch.setenv("MLEGFN_ALLOW_CPU", "1")
    assert threads_and_gpus(on_gpu["nll@cifar10-hour-baseline-2000"]) == (2, 0)
