"""`mlegfn resolve`: two people's runs in one git merge; entries whole, their files with them, nothing stale believed."""

import subprocess
from pathlib import Path

import pytest
from helpers.repository import REPOSITORY
from helpers.toy import entry, write_lock
from hypothesis import given
from hypothesis import strategies as st

from mlegfn.errors import UserError
from reproduction.settings.yaml_file import read_yaml
from reproduction.stage import recorded_outputs
from reproduction.workflow import dvc
from reproduction.workflow.resolve import HEAD, belongs, entries, merge, resolve

SIDE = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2", "3"]))


@given(SIDE, SIDE, SIDE)
def test_no_merged_entry_is_anybodys_mixture(base, ours, theirs):
    merged, dropped = merge(base, ours, theirs)
    assert merged == merge(base, theirs, ours)[0]
    for name in {*base, *ours, *theirs}:
        was, left, right = base.get(name), ours.get(name), theirs.get(name)
        both = left != was and right != was and left != right
        assert (name in dropped) == both
        if both:
            assert name not in merged
        else:
            assert merged.get(name) == (left if left != was else right)


FOLDER = Path("results/digits/planar")
KINDS = ("metrics/{}.json", "provenance/{}@digits.json", "parts/{}@digits.json")


def made(name, text, kinds=KINDS):
    """Write what a stage of the scale digits writes, its output with ``text`` in it; its output's path."""
    for kind in kinds:
        path = FOLDER / kind.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return str(FOLDER / KINDS[0].format(name))


def read(name):
    """What stands in the output, the provenance and the parts of a stage."""
    paths = [FOLDER / kind.format(name) for kind in KINDS]
    return [path.read_text().strip() if path.exists() else None for path in paths]


def record(**texts):
    """Write stages' outputs, and their entries into dvc.lock."""
    stages = read_yaml("dvc.lock")["stages"] if Path("dvc.lock").exists() else {}
    for name, text in texts.items():
        stages |= entry(f"{name}@digits", [made(name, text)])
    write_lock(stages)


def git(*arguments):
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    assert done.returncode == 0 or arguments[0] == "merge", done.stderr
    return done


def commit(message):
    git("add", "-A")
    git("commit", "-qm", message)


def test_two_peoples_runs_are_merged_by_entries(toy, capsys):
    """a: they ran it, we only repeated it; b: both changed it; the settings of fetch are theirs, of pretrain ours."""
    record(a="base", b="base")
    commit("start")
    git("checkout", "-q", "-b", "theirs")
    toy.edit("params.yaml", "train_limit: 64", "train_limit: 63")
    Path("data/smoke/images.txt").write_text("63 images")
    toy.run("dvc", "commit", "--force", "fetch@smoke")
    record(a="theirs", b="theirs")
    commit("theirs")
    lock = read_yaml("dvc.lock")["stages"]
    git("checkout", "-q", "main")
    Path("data/smoke/images.txt").write_text("64 images")
    toy.edit("params.yaml", "stop: 12\n", "stop: 16\n")
    toy.run("dvc", "commit", "--force", "pretrain@smoke")
    record(b="ours")
    made("a", "ours, again", KINDS[1:])
    commit("ours")
    ours = read_yaml("dvc.lock")["stages"]

    assert git("merge", "-q", "theirs").returncode != 0
    conflicts = git("diff", "--name-only", "--diff-filter=U").stdout.split()
    assert "dvc.lock" in conflicts and str(FOLDER / "parts/a@digits.json") in conflicts
    assert resolve() == 0
    said = capsys.readouterr().out
    assert "b@digits: recorded differently by both sides" in said and "a@digits" not in said
    with pytest.raises(UserError, match="no conflict here"):
        resolve()
    commit("merged")

    merged = read_yaml("dvc.lock")["stages"]
    assert merged == {
        "a@digits": lock["a@digits"],
        "fetch@smoke": lock["fetch@smoke"],
        "pretrain@smoke": ours["pretrain@smoke"],
    }
    assert read("a") == ["theirs"] * 3, "the record of a run goes with what it made"
    assert read("b") == ["ours"] * 3
    Path("data/smoke/images.txt").write_text("63 images")  # what `make restore` fetches
    # DVC decides, by content: their images are what their settings give; ours was trained on others.
    plan = dvc.make_plan("smoke")
    assert plan.stale == ["pretrain@smoke"] and plan.changes["pretrain@smoke"] == ["data/smoke changed"]


def test_entries_are_the_text_that_dvc_wrote(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "dvc.lock").read_text()
    parts = text.removeprefix(HEAD)
    git("init", "-q")
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], input=text, capture_output=True, text=True
    ).stdout.strip()
    found = entries(blob)
    assert "".join(found.values()) == parts and list(found) == list(
        read_yaml(REPOSITORY / "dvc.lock")["stages"]
    )
    outputs = [
        out["path"]
        for entry in read_yaml(REPOSITORY / "dvc.lock")["stages"].values()
        for out in entry["outs"]
    ]
    assert all(belongs(path, found) and belongs(f"{path}/x", found) for path in outputs)
    assert not belongs("src/mlegfn/data", found)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with two recorded stages, and a branch ``theirs``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "test"), monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@test")
    git("init", "-q", "-b", "main")
    Path(".gitattributes").write_text("dvc.lock -merge\nresults/** -merge\n")
    Path("params.yaml").write_text("seed: 0\n")
    record(a="base", b="base")
    commit("start")
    git("branch", "theirs")


def on_both(theirs, ours):
    """Make two branches, each by a function, and merge."""
    for branch, change in (("theirs", theirs), ("main", ours)):
        git("checkout", "-q", branch)
        change()
        commit(branch)
    assert git("merge", "-q", "theirs").returncode != 0


def test_peoples_own_conflicts_are_left_to_them(repository):
    on_both(
        lambda: Path("params.yaml").write_text("seed: 1\n"),
        lambda: Path("params.yaml").write_text("seed: 2\n"),
    )
    with pytest.raises(UserError, match=r"^params\.yaml: resolve this conflict first"):
        resolve()


def test_records_follow_the_entry_even_where_dvc_lock_has_no_conflict(repository):
    on_both(lambda: record(a="theirs"), lambda: made("a", "ours, again", KINDS[1:]))
    assert resolve() == 0
    assert read("a") == ["theirs"] * 3


def test_what_the_side_of_an_entry_has_deleted_is_deleted(repository):
    def theirs():
        record(a="theirs", b="theirs")
        (FOLDER / "parts/a@digits.json").unlink()

    def ours():
        made("a", "ours, again", KINDS[1:])
        record(b="ours")

    on_both(theirs, ours)
    assert resolve() == 0
    assert read("a") == ["theirs", "theirs", None]
    assert git("status", "--porcelain").stdout.count("\nD ") <= 1 and not git("diff", "--name-only").stdout


def test_a_side_that_dvc_did_not_write(repository):
    on_both(lambda: Path("dvc.lock").write_text("3"), lambda: record(a="ours"))
    with pytest.raises(UserError, match=r"^dvc\.lock: one side is not as DVC writes it"):
        resolve()
    assert set(recorded_outputs()) == {
        made("a", "x"),
        made("b", "x"),
    }
