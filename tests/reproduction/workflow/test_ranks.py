"""Several processes of one stage: what each is told, one exit code for all, requests to stop."""

import os
import re
import subprocess
import sys

import pytest
from helpers import toy as toys
from helpers.processes import tree, wait_for
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.workflow import ranks

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
def puppets(tmp_path, monkeypatch):
    """A package ``reproduction`` whose command line does what a rank may do; the working directory is its own."""
    package = tmp_path / "puppets" / "reproduction"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(RANK)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ranks, "LAST_WORDS_S", 0.3)
    return tmp_path


def test_every_rank_is_told_which_it_is(puppets):
    assert ranks.run(["environment,environment"], 2) == 0
    first, second = ((puppets / f"rank{rank}").read_text().split() for rank in (0, 1))
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
def test_one_exit_code_for_all_ranks(puppets, monkeypatch, actions, code):
    monkeypatch.setenv("MLEGFN_GRACE", "1")
    assert ranks.run([actions], 2) == code


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="finds the process tree in /proc")
@pytest.mark.parametrize("actions", ["save,save", "save,stubborn"])
def test_a_request_to_stop_reaches_every_rank(puppets, actions):
    """The launcher waits for those that save, and kills one that does not end."""
    code = (
        f"import sys; sys.path[:] = [{str(REPOSITORY / 'src')!r}] + [path for path in sys.path if 'puppets' not in path];"
        f"from reproduction.workflow import ranks; sys.exit(ranks.run([{actions!r}], 2))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "MLEGFN_GRACE": "1"})
    wait_for(lambda: (puppets / "rank0").exists() and (puppets / "rank1").exists())
    processes = tree(launcher.pid)
    assert len(processes) == 3
    launcher.terminate()
    assert launcher.wait(20) == 75
    assert not any(os.path.exists(f"/proc/{pid}") for pid in processes)


@pytest.mark.parametrize("text, count", [(None, 1), ("", 1), (" ", 1), ("2", 2)])
def test_how_many_ranks(monkeypatch, text, count):
    monkeypatch.delenv(ranks.RANKS, raising=False)
    assert ranks.wanted(text) == count
    if text is not None:
        monkeypatch.setenv(ranks.RANKS, text)
        assert ranks.wanted() == count


@pytest.mark.parametrize("text", ["x", "0", "-1", "1.5", "2 3", "2000"])
def test_ranks_that_are_no_number(text):
    with pytest.raises(UserError, match=f"^RANKS={re.escape(text)}: not a number of ranks") as error:
        ranks.wanted(text)
    assert "\n" not in str(error.value)


RANKED = """
import os


def run(stage):
    print("this is rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], "on", os.environ.get("CUDA_VISIBLE_DEVICES"))
    for path in stage.outputs:
        os.makedirs(path, exist_ok=True)
"""


def test_a_stage_runs_as_two_ranks_with_one_log_and_one_record(tmp_path):
    toy = toys.make(tmp_path / "checkout")
    toy.write("pretrain", RANKED)
    command = ("mlegfn", "stage", "images.pretrain", "cifar10_hour", "--ranks", "2")
    toy.run(*command, environment={"MLEGFN_GPUS": "x,y", "TMPDIR": str(tmp_path)})
    log = (toy.root / "results/cifar10_hour/logs/pretrain@cifar10_hour.log").read_text()
    assert sorted(re.findall(r"this is rank .*", log)) == [
        "this is rank 0 of 2 on x,y",
        "this is rank 1 of 2 on x,y",
    ]
    assert len(re.findall(r"^=== ", log, re.MULTILINE)) == 2 and "=== exit 0" in log
    assert (toy.root / "results/cifar10_hour/images/provenance/pretrain@cifar10_hour.json").exists()
    refused = toy.run(*command[:-1], "3", environment={"MLEGFN_GPUS": "x,y"}, check=False)
    assert refused.returncode == 2 and refused.stdout.count("\n") == 1
    assert "3 GPUs wanted, 2 visible" in refused.stdout


def test_a_stage_under_torchrun_starts_no_ranks(tmp_path):
    toy = toys.make(tmp_path / "checkout")
    toy.write("pretrain", RANKED)
    under = {"RANK": "1", "WORLD_SIZE": "2", "MLEGFN_RANKS": "2"}
    done = toy.run("mlegfn", "stage", "images.pretrain", "smoke", environment=under)
    assert done.stdout == toy.log("pretrain@smoke") == "this is rank 1 of 2 on None\n", (
        "head and end are rank 0's"
    )
