"""What DVC says of a scale, as a plan; and what a kill leaves of its files, mended."""

import json
from pathlib import Path

import pytest
import yaml
from helpers.toy import OUTPUTS, PRETRAIN, STAGES, entry, write_lock

from mlegfn.errors import UserError
from reproduction import hashes
from reproduction.stage import recorded_outputs
from reproduction.workflow import dvc

NEEDS = {"fetch@s": [], "pretrain@s": ["fetch@s"], "nll@s-a": ["pretrain@s"], "nll@s-b": ["pretrain@s"]}
NEEDS |= {"planar@s-x": [], "report@s": ["nll@s-a", "nll@s-b", "planar@s-x"]}


def plan(**changes):
    return dvc.Plan(
        list(NEEDS), NEEDS, {name.replace("__", "@").replace("_", "-"): why for name, why in changes.items()}
    )


def test_stale_are_those_that_changed_and_all_that_follow():
    assert plan().stale == []
    found = plan(nll__s_a=["x changed"])
    assert found.stale == ["nll@s-a", "report@s"]
    assert found.why("nll@s-a") == "x changed" and found.why("report@s") == "follows nll@s-a"
    everything = plan(fetch__s=["a", "b", "c", "d"], nll__s_a=["x"])
    assert everything.stale == ["fetch@s", "pretrain@s", "nll@s-a", "nll@s-b", "report@s"]
    assert everything.why("fetch@s") == "a; b; 2 more" and everything.why("nll@s-a") == "x"
    assert everything.why("report@s") == "follows nll@s-a, nll@s-b"


def test_the_stage_that_most_wait_for_comes_first():
    assert [plan().followers(name) for name in ("fetch@s", "pretrain@s", "planar@s-x", "report@s")] == [
        4,
        3,
        1,
        0,
    ]


def test_dvcs_words_made_short():
    status = [
        "changed command",
        {
            "changed deps": {
                "params.yaml": {"images.s.nll": "modified", "images.s.x": "new"},
                "src/a": "modified",
            }
        },
        {"changed outs": {"results/x": "deleted", "results/y": "not in cache"}},
        "always changed",
    ]
    assert dvc._changes(status) == [
        "dvc.yaml: command changed",
        "params.yaml images.s.nll changed",
        "params.yaml images.s.x is new",
        "src/a changed",
        "results/x missing (output)",
        "results/y not in cache (output)",
        "always changed",
    ]


def test_scales_of_stage_names():
    names = {
        "finetune@cifar10_hour-simple_tbc": "cifar10_hour",
        "fetch@smoke": "smoke",
        "family@digits-any_order": "digits",
    }
    assert {name: dvc.scale_of(name) for name in names} == names


def test_what_dvc_records_is_what_we_hash(toy):
    outputs = recorded_outputs()
    assert set(outputs) == set(OUTPUTS)
    assert {path: md5 for path, (_, md5) in outputs.items()} == {path: hashes.md5(path) for path in OUTPUTS}
    write_lock(entry("fetch@smoke", ["data/smoke"]))
    assert recorded_outputs()["data/smoke"] == outputs["data/smoke"]


def test_the_plan_of_a_checkout(toy):
    """Nothing is stale; then settings, a source file and a kill's leftover make one stage so, and say why."""
    found = dvc.make_plan("smoke")
    assert found.stages == STAGES and found.needs == {"fetch@smoke": [], "pretrain@smoke": ["fetch@smoke"]}
    assert found.stale == [] and found.changes == {}
    toy.edit("params.yaml", "stop: 12\n", "stop: 16\n")
    toy.write("pretrain", PRETRAIN + "\n")
    (toy.root / "data/smoke/images.txt").unlink()
    found = dvc.make_plan("smoke")
    assert found.stale == STAGES
    assert found.changes == {
        "fetch@smoke": ["data/smoke changed (output)"],
        "pretrain@smoke": [
            "src/reproduction/images/pretrain.py changed",
            "data/smoke changed",
            "params.yaml images.smoke.pretrain changed",
        ],
    }


DAG = """strict digraph {
"alone@s";
"fetch@s" -> "pretrain@s";
"fetch@other" -> "pretrain@s";
"fetch@big" -> "pretrain@big";
}
"""
STATUS = {
    "fetch@s": [{"changed deps": {"src/a": "modified"}}],
    "alone@s": [],
    "fetch@big": ["changed command"],
}


def test_a_plan_is_of_one_scale_and_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dvc, "run_dvc", lambda *words: DAG if "dag" in words else json.dumps(STATUS))
    Path("out").write_text("made")
    write_lock(entry("fetch@s", ["out"]))
    found = dvc.make_plan("s")
    assert found.stages == ["alone@s", "fetch@s", "fetch@other", "pretrain@s"]
    assert found.changes == {"fetch@s": ["src/a changed"], "alone@s": ["has not run yet"]}
    assert found.stale == ["alone@s", "fetch@s", "pretrain@s"]
    with pytest.raises(UserError, match=r"dvc\.yaml: no stage of the scale 'huge'"):
        dvc.make_plan("huge")


def test_what_dvc_complains_about_is_said(toy):
    (toy.root / "dvc.yaml").write_text("stages: 3")
    with pytest.raises(UserError, match=r"^dvc status: .*dvc\.yaml"):
        dvc.run_dvc("--wait-for-lock", "status")


# ---------------------------------------------------------------- after a kill


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """dvc.lock with one stage, and a copy of it."""
    monkeypatch.chdir(tmp_path)
    Path("out").write_text("made")
    write_lock(entry("a@s", ["out"]))
    dvc.keep_copy()
    return tmp_path


@pytest.mark.parametrize("content, kept", [("", False), ('{"out": {"wri', False), ("{}", True)])
def test_a_broken_rwlock_is_removed(locked, content, kept):
    dvc.RWLOCK.parent.mkdir(parents=True, exist_ok=True)
    dvc.RWLOCK.write_text(content)
    dvc.repair()
    assert dvc.RWLOCK.exists() == kept


@pytest.mark.parametrize("size", [0, 20, -40, -10])
def test_a_dvc_lock_that_was_cut_short_is_that_of_before(locked, size, capsys):
    whole = Path("dvc.lock").read_text()
    dvc.repair()
    assert capsys.readouterr().out == "" and Path("dvc.lock").read_text() == whole
    Path("dvc.lock").write_text(whole[:size])
    dvc.keep_copy()
    assert dvc.COPY.read_text() == whole, "half a file is no copy"
    dvc.repair()
    assert Path("dvc.lock").read_text() == whole
    assert "cut short by a kill" in capsys.readouterr().out


def test_what_dvc_was_linking_when_it_was_killed_is_removed(locked):
    left, ours = Path("results/s/.kOPRMga0qfZHonOqv-06Xw.tmp"), Path("results/s/.notes.tmp")
    left.parent.mkdir(parents=True)
    left.touch(), ours.touch()
    dvc.repair()
    assert not left.exists() and ours.exists()


def test_a_broken_dvc_lock_without_a_copy_is_named(locked):
    dvc.COPY.unlink()
    Path("dvc.lock").write_text("")
    with pytest.raises(UserError, match=r"^dvc\.lock: not as DVC writes it; restore it from git"):
        dvc.repair()


def test_the_copy_follows(locked):
    write_lock(entry("a@s", ["out"]) | entry("b@s", []))
    dvc.keep_copy()
    assert set(yaml.safe_load(dvc.COPY.read_text())["stages"]) == {"a@s", "b@s"}


def test_without_a_dvc_lock_there_is_nothing_to_mend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dvc.repair()
    dvc.keep_copy()
    assert not any(tmp_path.iterdir())
