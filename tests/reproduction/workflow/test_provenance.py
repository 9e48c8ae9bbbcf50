"""The record of how each artifact was made: written by the stage, never believed blindly."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
from helpers.repository import REPOSITORY
from helpers.toy import OUTPUTS, entry, write_lock

from mlegfn.errors import UserError
from reproduction import cli, hashes
from reproduction import params as settings
from reproduction.stage import Stage
from reproduction.workflow import provenance, surroundings


@cache
def params():
    return settings.load(REPOSITORY / "params.yaml")


def test_a_run_of_dvc_leaves_a_record_of_each_stage(toy):
    commit = toy.run("git", "rev-parse", "HEAD~").stdout.strip()
    record = provenance.of_stage("pretrain@smoke")
    assert (record["stage"], record["commit"], record["dirty"]) == ("pretrain@smoke", commit, False)
    assert record["command"] == "mlegfn stage images.pretrain smoke"
    assert record["inputs"] == {"data/smoke": hashes.md5("data/smoke")}
    assert record["outputs"] == {path: hashes.md5(path) for path in OUTPUTS[1:]}
    assert record["parameters"] == {"images.smoke.pretrain": settings.read()["images"]["smoke"]["pretrain"]}
    assert record["seeds"] == {"images.smoke.pretrain.seeds": [0, 1]}
    assert record["wall_s"] > 0 and record["peak_memory_mib"] > 10
    assert record["device"]["kind"] == "cpu" and record["device"]["cores"] >= 1
    assert set(provenance.wall_times(["fetch@smoke", "pretrain@smoke", "nll@smoke-simple_tbc"])) == {
        "fetch@smoke",
        "pretrain@smoke",
    }
    tracked = toy.run("git", "ls-files", "results").stdout.split()
    assert "results/smoke/images/provenance/pretrain@smoke.json" in tracked, "records are for git"
    assert "results/smoke/images/parts/pretrain@smoke.json" in tracked
    assert "provenance" not in (toy.root / "dvc.lock").read_text(), "and not for DVC"


def test_the_command(toy, capsys):
    def ask(*arguments, code=0):
        assert cli.main(["provenance", *arguments]) == code
        out, err = capsys.readouterr()
        return err if code else out

    inside = "results/smoke/images/checkpoints/baseline/4/weights.txt"
    shown = ask(inside)
    assert re.search(r"^stage +pretrain@smoke$", shown, re.MULTILINE)
    assert re.search(r"^commit +[0-9a-f]{40}$", shown, re.MULTILINE)
    assert re.search(r"^inputs +data/smoke  \"[0-9a-f]{32}\.dir\"$", shown, re.MULTILINE)
    assert shown.count("as in dvc.lock") == 2 and "images.smoke.pretrain.seeds  [0, 1]" in shown
    assert ask(str(toy.root / inside)) == ask("pretrain@smoke") == shown
    assert json.loads(ask("--json", "fetch@smoke"))["stage"] == "fetch@smoke"
    assert "README.md: no stage in dvc.lock makes it" in ask("README.md", code=2)
    assert "fetch@nowhere: no record of its run here" in ask("fetch@nowhere", code=2)

    # Another version of the outputs is in place than the one that the record is about.
    toy.edit("dvc.lock", hashes.md5(OUTPUTS[1]), f"{'0' * 32}.dir")
    assert f"dvc.lock records another version: {'0' * 32}.dir" in ask(inside)


@pytest.mark.parametrize("text", ["{ broken", "[]", "{}", "3"])
def test_a_record_that_is_none(untouched, text):
    path = provenance.place("fetch@smoke", "results/smoke/images")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert provenance.of_stage("fetch@smoke") is None and provenance.wall_times(["fetch@smoke"]) == {}
    Path("data/smoke").mkdir(parents=True)
    write_lock(entry("fetch@smoke", ["data/smoke"]))
    with pytest.raises(UserError, match="fetch@smoke: no record of its run here"):
        provenance.show("data/smoke")


def test_ranks_tell_their_launcher(untouched, monkeypatch):
    """The launcher has no torch and no GPU: the record names the first rank's device and the largest rank's memory."""
    run = provenance.Recording(Stage("images.pretrain", "smoke", None, params()))
    run.expect_ranks()
    for rank, memory in ((1, 9e6), (0, 100.0)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr(surroundings, "peak_memory_mib", lambda memory=memory: memory)
        monkeypatch.setattr(surroundings, "device", lambda rank=rank: {"kind": "cuda", "name": f"GPU {rank}"})
        provenance.leave_rank_report()
    run.write()
    record = provenance.of_stage("pretrain@smoke")
    assert record["device"]["name"] == "GPU 0" and record["peak_memory_mib"] == 9e6
    assert provenance.RANK_REPORTS not in provenance.os.environ


def test_seeds_are_found_in_blocks_and_lists():
    parameters = {"a.seed": 3, "a.b": {"seeds": [0, 1], "c": {"seed": 4, "steps": 5}}, "d": {"e": [1]}}
    assert provenance.seeds(parameters) == {"a.seed": 3, "a.b.seeds": [0, 1], "a.b.c.seed": 4}
