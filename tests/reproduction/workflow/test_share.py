"""Results through a remote: nothing lost, nothing damaged passed on, nothing of anybody's replaced."""

import re
import shutil
from pathlib import Path

import pytest
from helpers.remotes import add_remote, flip, s3, set_up_s3, set_up_ssh, ssh
from helpers.repository import REPOSITORY
from helpers.toy import OUTPUTS, STAGES, entry, write_lock

from mlegfn.errors import UserError
from reproduction import cli
from reproduction.stage import recorded_outputs
from reproduction.workflow import dvc, share

IMAGES, WEIGHTS = "data/smoke/images.txt", "results/smoke/images/checkpoints/baseline/4/weights.txt"
METRIC = "results/smoke/images/metrics/pretrain/4.json"


def up_to_date(scale):
    """The plan where nothing is stale, without asking DVC."""
    return dvc.Plan(STAGES, {name: [] for name in STAGES}, {})


@pytest.fixture
def remote(tmp_path, toy):
    """The folder that is the toy's remote; nothing is in it."""
    folder = tmp_path / "remote"
    add_remote(toy, folder)
    toy.commit("a remote")
    return folder


def object_of(remote, path):
    """Where the remote keeps the content of a file."""
    (found,) = [
        file for file in remote.rglob("*") if file.is_file() and file.read_bytes() == Path(path).read_bytes()
    ]
    return found


def test_a_second_person_gets_the_very_bytes(toy, remote, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(dvc, "make_plan", up_to_date)
        assert cli.main(["record"]) == 0
    assert "recorded: 3 outputs of 2 stages are at the remote 'shared'" in capsys.readouterr().out
    second = toy.clone(tmp_path / "second")
    monkeypatch.chdir(second.root)
    assert not (second.root / IMAGES).exists()
    assert cli.main(["restore", "--scale", "smoke"]) == 0
    assert "restored: 3 outputs of 2 recorded stages, every byte read" in capsys.readouterr().out
    assert second.contents() == toy.contents() and len(toy.contents()) == 5
    assert dvc.make_plan("smoke").stale == [], "and nothing has to run"
    assert second.run("git", "status", "--porcelain").stdout == ""
    assert cli.main(["verify"]) == 0
    assert capsys.readouterr().out == "3 of 3 recorded outputs are as recorded, every byte read\n"

    # A bit that flips escapes DVC, not `verify`; what somebody changed is not replaced.
    flip(IMAGES)
    assert cli.main(["verify"]) == 1
    assert capsys.readouterr().out.splitlines()[0].startswith("data/smoke: not what fetch@smoke made (MD5 ")
    Path(WEIGHTS).write_text("mine")
    assert cli.main(["restore"]) == 2
    assert Path(WEIGHTS).read_text() == "mine"


@pytest.mark.parametrize("kind", ["s3", "ssh"])
def test_through_a_server(kind, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(dvc, "make_plan", up_to_date)
    with s3() if kind == "s3" else ssh(tmp_path) as server:
        addresses = (server,) if kind == "s3" else server
        if kind == "ssh":
            monkeypatch.setenv("HOME", str(server[1]))
        set_up = set_up_s3 if kind == "s3" else set_up_ssh
        set_up(toy, *addresses)
        toy.commit("a remote")
        assert share.record() == 0
        second = toy.clone(tmp_path / "second")
        (second.root / ".dvc/config.local").write_text((toy.root / ".dvc/config.local").read_text())
        monkeypatch.chdir(second.root)
        assert share.restore("smoke") == 0
    assert second.contents() == toy.contents()


def test_what_is_not_fit_to_share(toy, remote):
    (toy.root / "new.txt").touch()
    with pytest.raises(UserError, match=r"^new\.txt: not committed \(1 such"):
        share.record()
    (toy.root / "new.txt").unlink()
    toy.edit("params.yaml", "stop: 12\n", "stop: 16\n")
    toy.commit("another setting")
    with pytest.raises(
        UserError, match=r"^pretrain@smoke: params\.yaml images\.smoke\.pretrain changed; 1 recorded"
    ):
        share.record()
    assert not remote.exists()


def test_what_is_damaged_is_not_passed_on(toy, remote, monkeypatch):
    """A bit flips, and no time, size or mode: DVC does not see it."""
    monkeypatch.setattr(dvc, "make_plan", up_to_date)
    flip(WEIGHTS)
    with pytest.raises(UserError, match=r"baseline: not what pretrain@smoke made \(MD5 "):
        share.record("smoke")
    flip(WEIGHTS)
    share.record()
    damaged, contents = object_of(remote, WEIGHTS), toy.contents()
    flip(damaged)
    for path in (*OUTPUTS[:2], ".dvc/cache"):
        shutil.rmtree(path)
    with pytest.raises(
        UserError, match=r"checkpoints/baseline: not what pretrain@smoke made .* delete what differs"
    ):
        share.restore()
    shutil.rmtree(OUTPUTS[1])
    flip(damaged)  # what DVC had put into its cache is not taken from there again
    assert share.restore() == 0 and toy.contents() == contents


def test_without_a_remote_or_results(untouched, monkeypatch, capsys):
    for command in ("record", "restore", "verify"):
        assert cli.main([command]) == 2
        assert "nothing is recorded in dvc.lock; `make reproduce` makes it" in capsys.readouterr().err
    with pytest.raises(UserError, match="no scale 'none'"):
        share.verify("none")
    monkeypatch.setattr(share, "recorded_outputs", lambda: {"data/digits": ("fetch@digits", "0")})
    assert set(share.recorded("digits")) == {"data/digits"}
    with pytest.raises(UserError, match=r"smoke: nothing of it is recorded in dvc\.lock"):
        share.recorded("smoke")
    with pytest.raises(UserError, match="no DVC remote, so nothing is shared"):
        share.restore()


def test_all_differences_are_said(toy, capsys):
    Path(METRIC).write_text("{}")
    Path(IMAGES).unlink(), Path("data/smoke").rmdir()
    assert share.verify("smoke") == 1
    first, second, mending, last = capsys.readouterr().out.splitlines()
    assert mending.startswith("delete what differs")
    assert first == "data/smoke: missing (fetch@smoke)"
    assert second.startswith("results/smoke/images/metrics/pretrain: not what pretrain@smoke made")
    assert last == "1 of 3 recorded outputs are as recorded, every byte read"


@pytest.fixture
def two_scales(untouched, monkeypatch):
    """{scale: the file that it has recorded} of two scales; the calls of DVC, which fail where ``broken`` is a scale."""
    paths = {scale: f"results/{scale}/images/metrics/nll.json" for scale in ("smoke", "digits")}
    for path in paths.values():
        Path(path).parent.mkdir(parents=True)
        Path(path).write_text(path)
    write_lock({k: v for scale, path in paths.items() for k, v in entry(f"nll@{scale}", [path]).items()})
    calls, broken = [], set()

    def run_dvc(*words):
        calls.append(words)
        if broken & {dvc.scale_of(word) for word in words}:
            raise UserError("dvc pull: not at the remote")
        return ".dvc/cache\n"

    plan = lambda scale: dvc.Plan([f"nll@{scale}"], {f"nll@{scale}": []}, {})  # noqa: E731
    for module, name, value in (
        (dvc, "run_dvc", run_dvc), (dvc, "make_plan", plan), (share, "remote", lambda: "lab"),
        (share, "all_committed", lambda: None),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    return paths, calls, broken


def test_all_scales_are_fetched_but_for_those_that_cannot_be(two_scales, capsys):
    paths, calls, broken = two_scales
    broken.add("digits")
    Path(paths["digits"]).unlink()
    assert cli.main(["restore"]) == 0
    assert capsys.readouterr().out == (
        "not restored: digits: dvc pull: not at the remote\n"
        "restored: 1 outputs of 1 recorded stages, every byte read\n"
    )
    assert calls == [("pull", "nll@smoke"), ("pull", "nll@digits")]
    assert cli.main(["restore", "--scale", "digits"]) == 2
    broken.add("smoke")
    assert cli.main(["restore"]) == 2
    broken.clear()
    Path(paths["smoke"]).write_text("damaged")
    assert cli.main(["restore"]) == 2, "what was fetched is not what was recorded"


def test_all_scales_are_shared_but_for_those_that_are_stale_or_not_here(two_scales, capsys, monkeypatch):
    paths, calls, _ = two_scales
    assert cli.main(["record"]) == 0 and calls.pop() == ("push", "nll@digits", "nll@smoke")
    assert "not recorded" not in capsys.readouterr().out
    Path(paths["digits"]).unlink()
    assert cli.main(["record"]) == 0 and calls == [("push", "nll@smoke")]
    said = capsys.readouterr().out
    assert "not recorded: digits: nothing of it is in this checkout; make restore fetches it\n" in said
    stale = {"nll@smoke": ["src changed"]}
    monkeypatch.setattr(dvc, "make_plan", lambda scale: dvc.Plan(["nll@smoke"], {"nll@smoke": []}, stale))
    assert cli.main(["record"]) == 2 and len(calls) == 1
    assert "first: make reproduce SCALE=smoke" in capsys.readouterr().err


def test_what_is_not_fetched_is_not_damaged(two_scales, capsys):
    paths, *_ = two_scales
    Path(paths["digits"]).unlink()
    assert cli.main(["verify"]) == 0
    assert capsys.readouterr().out == (
        "not fetched: digits: 1 of 1 outputs are not here; make restore SCALE=digits fetches them\n"
        "1 of 1 recorded outputs are as recorded, every byte read\n"
    )
    assert cli.main(["verify", "--scale", "digits"]) == 1
    Path(paths["smoke"]).write_text("damaged")
    assert cli.main(["verify"]) == 1 and "not what nll@smoke made" in capsys.readouterr().out


def test_the_lines_of_readme_in_order(toy, tmp_path, monkeypatch, capsys):
    """In a checkout with results, with a folder for a remote; `make X` calls `mlegfn X`."""
    section = (REPOSITORY / "README.md").read_text().partition("\n## Share, and trust\n")[2]
    box = re.sub(r"\s+#.*|^#.*\n", "", section.partition("```sh\n")[2].partition("```")[0], flags=re.M)
    lines = [line for part in box.splitlines() for line in part.split("; ")]
    assert [line for line in lines if line.startswith("make ")] == [
        "make record",
        "make restore",
        "make verify",
    ]
    monkeypatch.setattr(dvc, "make_plan", up_to_date)
    for line in lines:
        line = line.replace("s3://bucket", str(tmp_path)).replace(
            "results/digits/images/figures/figure1.png", METRIC
        )
        if line.startswith(("make ", "mlegfn ")):
            code = cli.main(line.split()[1:])
            assert code == (2 if line == "mlegfn resolve" else 0), (line, capsys.readouterr())
        else:
            toy.run("sh", "-c", line)
    shown = capsys.readouterr()
    assert "recorded: 3 outputs" in shown.out and "restored: 3 outputs" in shown.out
    assert "pretrain@smoke" in shown.out and "no conflict here" in shown.err


def test_one_scale_is_deleted(untouched, capsys):
    for path in ("data/smoke/a", "results/smoke/images/b", "results/digits/c"):
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()
    assert cli.main(["clean-scale", "--scale", "smoke"]) == 0
    assert capsys.readouterr().out == "removed data/smoke\nremoved results/smoke\n"
    assert Path("results/digits/c").exists() and not Path("results/smoke").exists()
    assert cli.main(["clean-scale", "--scale", "smoke"]) == 0
    assert capsys.readouterr().out == "smoke: nothing to remove\n"
    assert cli.main(["clean-scale", "--scale", "../.."]) == 2
    Path("data/smoke").symlink_to(Path("results/digits").absolute())
    assert cli.main(["clean-scale", "--scale", "smoke"]) == 2
    assert "a symbolic link" in capsys.readouterr().err and Path("results/digits/c").exists()


def test_what_is_recorded_is_what_was_made(toy):
    assert share.differences(recorded_outputs()) == {}
