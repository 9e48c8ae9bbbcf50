"""Every artifact's provenance: written by the stage, right after DVC has restored something, never believed blindly."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from mlegfn import cli, graph
from mlegfn.pipeline import engine, lock_yaml, lockfile, provenance, recorded, surroundings
from mlegfn.pipeline.hashes import md5

AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@test")


def names():
    return graph.names(engine.load_graph(), "smoke")


def test_every_stage_of_a_run_has_the_record_of_its_entry(snakemade, monkeypatch):
    monkeypatch.chdir(snakemade.root)
    lock, commit = recorded.Lock(), snakemade.run("git", "rev-parse", "HEAD").stdout.strip()
    for name in names():
        record = provenance.of_stage(name, lock)
        assert record.pop("recorded") is True, name
        assert list(record) and set(record) == set(provenance.KEYS)
        entry = lock.entry(name)
        for key in provenance.IDENTITY:
            assert provenance.equal(record[key], entry[key]), (name, key)
        # The fixture's graph.json is that of one scale, and not committed.
        assert (record["stage"], record["commit"], record["dirty"]) == (name, commit, True)
        assert record["wall_s"] > 0 and record["peak_memory_mib"] > 50
        assert record["device"]["kind"] == "cpu" and record["device"]["cores"] >= 1
        assert record["packages"]["torch"] and record["requirements_lock"] == surroundings.lock_hash()
    assert provenance.of_stage("finetune@smoke-4-tbc-1", lock)["seeds"] == {"--seed": 1}
    assert provenance.of_stage("nll@smoke-baseline-4", lock)["seeds"] == {"scales.smoke.nll.seed": 0}


def test_records_are_for_git_and_not_for_dvc(snakemade):
    path = "results/smoke/provenance/fetch@smoke.json"
    assert (snakemade.root / path).exists()
    assert snakemade.run("git", "check-ignore", path, check=False).returncode == 1
    assert "provenance" not in (snakemade.root / "dvc.lock").read_text()


def test_entries_are_read_as_dvc_reads_them(monkeypatch):
    from dvc.utils.serialize import parse_yaml

    monkeypatch.chdir(REPOSITORY)
    texts = lockfile.split((REPOSITORY / "dvc.lock").read_text())
    for name in ("fetch@digits", "finetune@digits-300-tbc-0", "planar@digits-moons", "alpha@digits"):
        assert lock_yaml.parse(texts[name]) == parse_yaml(texts[name], "dvc.lock")
    odd = "a: [1e-05, 1E5, .5, -3, +4, no, on, yes, true, null, ~, 1:30, 0.0, 1_000, '7', 5., .inf, x]\n"
    assert lock_yaml.parse(odd) == parse_yaml(odd, "x")


def test_what_dvc_restores_brings_its_record_back(smoke, monkeypatch):
    """Run B of fetch after run A, then A's source again: DVC takes A's outputs from its run cache and runs nothing."""
    monkeypatch.chdir(smoke.root)
    place, source = provenance.place("fetch@smoke", "smoke"), smoke.root / "src/mlegfn/stages/fetch.py"
    repro = ("mlegfn", "dvc", "repro", "--single-item", "fetch@smoke")
    good, first = source.read_bytes(), place.read_bytes()
    shutil.rmtree(smoke.root / provenance.STORE)  # as in a clone: the first record came by git
    source.write_bytes(good + b"\n# another\n")
    smoke.run(*repro)
    assert place.read_bytes() != first
    second = json.loads(place.read_text())
    assert second["inputs"]["src/mlegfn/stages/fetch.py"] == md5(source)
    source.write_bytes(good)
    assert "is cached - skipping run" in smoke.run(*repro).stdout
    assert place.read_bytes() == first

    # Without DVC's wrapper the wrong one is in place, but nobody believes it; `settle` repairs it.
    place.write_text(json.dumps(second))
    assert provenance.of_stage("fetch@smoke")["inputs"] == json.loads(first)["inputs"]
    assert provenance.settle(["fetch@smoke"]) == ["fetch@smoke"]
    assert place.read_bytes() == first and provenance.settle(["fetch@smoke"]) == []


def test_a_record_of_other_outputs_is_not_believed(smoke, monkeypatch):
    monkeypatch.chdir(smoke.root)
    name = "tables@smoke"
    place = provenance.place(name, "smoke")
    record = json.loads(place.read_text())
    shutil.rmtree(smoke.root / provenance.STORE / name)
    record["outputs"] = dict.fromkeys(record["outputs"], "0" * 32)
    place.write_text(json.dumps(record))
    found = provenance.of_stage(name)
    assert found["recorded"] is False and found["commit"] is None  # dvc.lock is not committed here
    entry = recorded.Lock().entry(name)
    assert {key: found[key] for key in provenance.IDENTITY} == entry
    assert found["seeds"] == provenance.seeds(entry["command"], entry["parameters"])
    known = {*provenance.IDENTITY, "stage", "seeds", "recorded"}
    assert {key for key, value in found.items() if value is not None} == known
    # A record that is nobody's makes room, but not for good.
    assert provenance.settle([name]) == [name] and not place.exists()
    assert provenance.read(provenance.stored(record)) == record

    place.write_text("{ broken")
    assert provenance.of_stage(name)["recorded"] is False
    shown = smoke.run("mlegfn", "provenance", name).stdout
    assert "reconstructed" in shown and "no commit" in shown


def test_the_commit_that_changed_an_entry(smoke, monkeypatch):
    """Entries change in two of three commits of dvc.lock; one is not committed."""
    monkeypatch.chdir(smoke.root)
    path = smoke.root / "dvc.lock"
    texts = lockfile.split(path.read_text())
    commits = []
    for changes in (
        {},
        {"tables@smoke": "  tables@smoke:\n    cmd: x\n"},
        {"fetch@smoke": "  fetch@smoke:\n    cmd: y\n"},
    ):
        texts |= changes
        path.write_text(lockfile.join(texts))
        smoke.run("git", "add", "-f", "dvc.lock")
        smoke.run("git", *AUTHOR, "commit", "-qm", "results")
        commits.append(smoke.run("git", "rev-parse", "HEAD").stdout.strip())
    path.write_text(lockfile.join({**texts, "verdict@smoke": "  verdict@smoke:\n    cmd: z\n"}))
    lock = recorded.Lock()
    found = [lock.commit(name) for name in ("figures@smoke", "tables@smoke", "fetch@smoke", "verdict@smoke")]
    assert found == [*commits, None]


def test_a_record_that_cannot_be_written_costs_no_result(smoke):
    folder = smoke.root / "results/smoke/provenance"
    shutil.rmtree(folder)
    folder.write_text("in the way")
    done = smoke.run("mlegfn", "stage", "tables", "--scale", "smoke")
    assert "mlegfn: " in done.stdout and "its results are whole" in done.stdout
    assert "Traceback" not in done.stdout
    assert (smoke.root / "results/smoke/tables/nll.csv").exists()


def test_the_command(smoke, monkeypatch, capsys):
    monkeypatch.chdir(smoke.root)

    def ask(*arguments, code=0):
        assert cli.main(["provenance", *arguments]) == code
        out, err = capsys.readouterr()
        return err if code else out

    inside = "results/smoke/checkpoints/pretrain-8/model_index.json"
    shown = ask(inside)
    assert "pretrain@smoke-8" in shown and "which it is part of): as recorded" in shown
    assert re.search(r"commit +[0-9a-f]{12}, with changes", shown)
    assert "results/smoke/checkpoints/pretrain-4  pretrain@smoke-4" in shown
    assert "scales.smoke.pretrain.optimizer" in shown and re.search(r"packages .*torch \d", shown)
    assert ask(str(smoke.root / inside)).splitlines()[1:-1] == shown.splitlines()[1:-1]

    everything = json.loads(ask("--json", "--all", "results/smoke/figures/figure3.png"))
    assert everything["stage"] == "figures@smoke"
    assert {"fetch@smoke", "trajectories@smoke", "pretrain@smoke-4"} <= set(everything["records"])
    assert everything["on_disk"] == {"results/smoke/figures/figure3.png": "as recorded"}
    assert json.loads(ask("--json", "fetch@smoke"))["record"]["stage"] == "fetch@smoke"
    assert "\npretrain@smoke-4\n" in ask("--all", inside)

    (smoke.root / inside).write_text("{}")
    assert "which it is part of): differs" in ask(inside)
    (smoke.root / "results/smoke/tables/nll.csv").unlink()
    assert "nll.csv: missing" in ask("results/smoke/tables/nll.csv")
    assert "no stage makes it" in ask("README.md", code=2)
    assert "several stages" in ask("results/smoke", code=2)
    assert "no such stage" in ask("fetch@nowhere", code=2)
    shutil.rmtree(smoke.root / "results/smoke/provenance")
    shutil.rmtree(smoke.root / ".dvc/tmp/mlegfn")
    (smoke.root / "dvc.lock").unlink()
    assert "has not run here" in ask("fetch@smoke", code=2)


# ---------------------------------------------------------------- surroundings


def test_dirty_is_what_can_determine_a_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert surroundings.git_state() == (None, None)

    def git(*arguments):
        return subprocess.run(["git", *AUTHOR, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    assert surroundings.git_state() == (None, None)  # no commit yet
    for path in ("src/a.py", "params.yaml", "results/x.json", "dvc.lock", "README.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("1\n")
    git("add", "-A")
    git("commit", "-qm", "all")
    commit = git("rev-parse", "HEAD").strip()
    for path in ("results/x.json", "dvc.lock", "README.md", "results/new.json"):
        (tmp_path / path).write_text("2\n")
    assert surroundings.git_state() == (commit, False)
    for path in ("src/a.py", "params.yaml", "src/new.py"):
        before = (tmp_path / path).read_text() if (tmp_path / path).exists() else None
        (tmp_path / path).write_text("2\n")
        assert surroundings.git_state() == (commit, True), path
        (tmp_path / path).unlink() if before is None else (tmp_path / path).write_text(before)
    assert surroundings.git_state() == (commit, False)
    (tmp_path / ".git/index.lock").touch()  # a commit is going on
    assert surroundings.git_state() == (commit, False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert surroundings.git_state() == (None, None)


CHILD = """
import sys
from mlegfn.pipeline import surroundings
content = bytearray(b"x" * (int(sys.argv[1]) << 20))
del content
print(surroundings.peak_memory_mib())
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux says it there")
def test_memory_is_the_process_own():
    """Not that of a big process above it, and what was freed counts."""
    ours = bytearray(b"x" * (400 << 20))

    def child(size):
        return float(
            subprocess.run([sys.executable, "-c", CHILD, str(size)], check=True, capture_output=True).stdout
        )

    small, large = child(0), child(200)
    assert len(ours) and small < 200 and 200 <= large - small < 450
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        found = surroundings.peak_memory_mib()
        os.write(write, str(found).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert float(os.read(read, 100)) >= 400  # a fork has its parent's pages
    os.close(read), os.close(write)


def test_ranks_tell_their_launcher(smoke, monkeypatch):
    """The launcher has no torch and no GPU: the record names the first rank's device and the largest rank's memory."""
    monkeypatch.chdir(smoke.root)
    run = provenance.Run("nll@smoke-baseline-4", "smoke")
    run.expect_ranks()
    for rank, memory in ((1, 9e6), (0, 100.0)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr(surroundings, "peak_memory_mib", lambda memory=memory: memory)
        monkeypatch.setattr(surroundings, "device", lambda rank=rank: {"kind": "cuda", "name": f"GPU {rank}"})
        provenance.tell()
    record = run.record()
    assert record["device"]["name"] == "GPU 0" and record["peak_memory_mib"] == 9e6
    assert provenance.RANKS not in os.environ


def test_cuda_of_the_installed_torch():
    import torch

    assert surroundings.torch_cuda() == torch.version.cuda


def test_versions_are_those_that_python_says():
    """Read from the head of their metadata, as parsing all of it takes a stage longer."""
    found = surroundings.packages()
    found.pop("torch-cuda", None)
    assert len(found) > 20 and found == {name: importlib.metadata.version(name) for name in found}
