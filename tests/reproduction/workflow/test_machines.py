"""Other people's machines: locales, umasks, variables of the engines, checkouts of another owner, inputs that are gone."""

import os
import stat

import pytest

from mlegfn.artifacts import atomic_directory, write_text
from mlegfn.errors import UserError
from reproduction import cli
from reproduction.workflow import dvc, reproduce

C_LOCALE = {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LC_ALL": "C"}


@pytest.mark.parametrize("umask, file, folder", [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)])
def test_the_umask_decides_who_may_read(tmp_path, umask, file, folder):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a/b.txt", "private")
        with atomic_directory(tmp_path / "c") as made:
            (made / "d").touch()
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b.txt", "c", "c/d")}
    assert modes == {"a": folder, "a/b.txt": file, "c": folder, "c/d": file}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b.txt", "c", "d"]


@pytest.mark.parametrize("command", [["status"], ["doctor"], ["provenance", "fetch@smoke"], ["verify"]])
def test_a_locale_without_utf8(toy, command):
    scale = ["--scale", "smoke"] if command[0] in ("status", "doctor") else []
    done = toy.run("mlegfn", *command, *scale, environment=C_LOCALE, check=False)
    assert "Traceback" not in done.stdout and "Error" not in done.stdout
    # What the message quotes is no ASCII.
    done = toy.run("mlegfn", "status", "--scale", "größe", environment=C_LOCALE, check=False)
    assert done.returncode == 2 and "no scale 'größe'" in done.stdout


def test_variables_that_would_change_a_run_are_ignored_and_said(toy, monkeypatch, capsys):
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "/nowhere/slurm")
    assert "SNAKEMAKE_PROFILE" not in dvc.environment()
    assert cli.main(["reproduce", "--scale", "smoke", "--dry-run"]) == 0
    assert capsys.readouterr().err.startswith("SNAKEMAKE_PROFILE: ignored;")


def test_a_commit_that_git_does_not_name_is_said_where_it_is_written(toy):
    other = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    said = toy.run("mlegfn", "stage", "images.fetch", "smoke", environment=other).stdout
    line = f"git config --global --add safe.directory {toy.root}"
    assert line in said and line in toy.log("fetch@smoke")
    assert line in toy.run("mlegfn", "doctor", "--scale", "smoke", environment=other, check=False).stdout


@pytest.mark.parametrize("ran", [True, False])
def test_a_source_that_is_gone_stops_the_run_before_it_begins(toy, ran, capsys):
    (toy.root / "src/reproduction/images/pretrain.py").unlink()
    if not ran:
        (toy.root / "dvc.lock").unlink()
    assert cli.main(["reproduce", "--scale", "smoke"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "pretrain.py" in error and "pretrain@smoke" in error
    assert toy.log("fetch@smoke").count("\n=== 2") == 1


def test_images_that_are_gone_stop_the_run_and_nothing_is_deleted(toy, capsys):
    text = (toy.root / "params.yaml").read_text()
    old = "data: {source: digits, path: null, train_limit: 64"
    assert text.count(old) == 1
    new = old.replace("digits", "archive").replace("null", '"/nowhere/{mine}.zip"')
    (toy.root / "params.yaml").write_text(text.replace(old, new))
    before = toy.contents()
    assert cli.main(["reproduce", "--scale", "smoke"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mlegfn: fetch@smoke: /nowhere/{mine}.zip: not found")
    assert toy.contents() == before


def test_a_typo_in_a_claim_is_found_before_anything_runs(toy, monkeypatch):
    (toy.root / "claims").mkdir()
    (toy.root / "claims/images.yaml").write_text(
        "a:\n  claim: x\n  paper: x\n  source: x\n  scales: null\n"
        "  test: {kind: log_p_above, arm: simple_tcb, reference: simple}\n"
    )
    from reproduction import params

    plan = dvc.Plan(["images_report@smoke"], {"images_report@smoke": []}, {"images_report@smoke": ["x"]})
    with pytest.raises(
        UserError, match=r"^images_report@smoke: claims/images\.yaml: a.*arm.*simple_tbc.*simple_tcb"
    ):
        reproduce.check_inputs(plan, params.load())
