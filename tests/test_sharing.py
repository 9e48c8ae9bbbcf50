"""`mlegfn record`, `restore`, `verify`, `resolve`: nothing lost, nothing damaged used, nothing stale believed."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import Checkout
from hypothesis import given
from hypothesis import strategies as st
from remotes import flip, s3, set_up_s3, set_up_ssh, ssh
from test_engines import dvc_status, results, runs

from mlegfn.errors import UserError
from mlegfn.pipeline import lockfile, one_run
from mlegfn.pipeline.merge import merge

DATA, LIST = "data/smoke/images.safetensors", "data/smoke/dataset.json"
CHECKPOINT = "results/smoke/checkpoints/pretrain-4"
METRIC = "results/smoke/metrics/quality/baseline-8.json"
REPORTS = {"figures@smoke", "tables@smoke", "verdict@smoke"}


@pytest.fixture(scope="module")
def committed(snakemade, tmp_path_factory):
    """`snakemade` with its results in git. Do not change it."""
    checkout = snakemade.duplicate(tmp_path_factory.mktemp("committed") / "checkout")
    for key in ("name", "email"):
        checkout.run("git", "config", f"user.{key}", "test@test")
    commit(checkout)
    return checkout


@pytest.fixture(scope="module")
def in_folder(committed, tmp_path_factory):
    """(checkout, remote): `committed`, recorded at a remote that is a folder. Change neither."""
    folder = tmp_path_factory.mktemp("recorded")
    checkout = committed.duplicate(folder / "checkout")
    checkout.run("dvc", "remote", "add", "--default", "shared", folder / "remote")
    commit(checkout)
    checkout.run("mlegfn", "record")
    return checkout, folder / "remote"


def commit(checkout):
    checkout.run("git", "add", "-A")
    checkout.run("git", "commit", "-qm", "results")


def clone(checkout, destination, **environment):
    """What a second person has: git's part alone, somewhere else."""
    subprocess.run(["git", "clone", "-q", checkout.root, destination], check=True)
    second = Checkout(destination, {**checkout.environment, **environment})
    for key in ("name", "email"):
        second.run("git", "config", f"user.{key}", "other@test")
    return second


def outputs(checkout):
    """{path: bytes} of every file that a stage made, folders' files among them."""
    found = {}
    for path in recorded(checkout):
        where = checkout.root / path
        for file in [where] if where.is_file() else where.rglob("*"):
            if file.is_file() and file.name != ".snakemake_timestamp":
                found[str(file.relative_to(checkout.root))] = file.read_bytes()
    return found


def recorded(checkout):
    """{path: MD5} of every output that dvc.lock records."""
    entries = lockfile.read(checkout.root / "dvc.lock")
    return {path: md5 for entry in entries.values() for path, md5 in lockfile.outputs(entry).items()}


def object_of(folder, md5):
    return folder / "files/md5" / md5[:2] / md5[2:]


def refused(checkout, *command):
    """The one line by which a command says what the user can mend."""
    done = checkout.run("mlegfn", *command, check=False)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("kind", ["folder", "s3", "ssh"])
def test_a_second_person_gets_the_very_bytes(kind, committed, in_folder, tmp_path):
    with s3() if kind == "s3" else ssh(tmp_path) if kind == "ssh" else open(os.devnull) as remote:
        if kind == "folder":
            first, _ = in_folder
        else:
            first = committed.duplicate(tmp_path / "first")
            set_up_s3(first, remote) if kind == "s3" else set_up_ssh(first, *remote)
            commit(first)
            assert "are at the remote 'shared'" in first.run("mlegfn", "record").stdout
        second = clone(first, tmp_path / "second")
        if kind != "folder":  # credentials do not travel with git
            set_up_s3(second, remote) if kind == "s3" else set_up_ssh(second, *remote)
        second.run("mlegfn", "restore")
    assert outputs(second) == outputs(committed) and len(outputs(second)) > len(recorded(second)) > 100
    if kind == "folder":  # once; Snakemake asks DVC, too
        assert dvc_status(second) == set()
    assert "Nothing to be done" in second.run("snakemake", "-n", "--config", "scale=smoke").stdout
    assert second.run("git", "status", "--porcelain").stdout == ""


def test_record_says_what_is_not_fit_to_share(committed, tmp_path):
    first = committed.duplicate(tmp_path / "first")
    assert "no remote" in refused(first, "record") and "no remote" in refused(first, "restore")
    first.run("dvc", "remote", "add", "--default", "shared", tmp_path / "no" / "such" / "remote")
    assert ".dvc/config: not committed (1 such" in refused(first, "record")
    commit(first)
    said = refused(first, "record")
    assert "remote 'shared'" in said and "no such bucket or folder" in said
    flip(first.root / DATA)
    said = refused(first, "record")
    assert f"fetch@smoke: {DATA} (modified)" in said and "make reproduce SCALE=smoke" in said
    first.run("git", "rm", "-q", "--cached", "dvc.lock")
    (first.root / "dvc.lock").unlink()
    first.run("git", "commit", "-qam", "no lock")
    assert "records nothing to share" in refused(first, "record")


def test_errors_of_remotes(committed, tmp_path):
    second = clone(committed, tmp_path / "second")
    second.environment.update(AWS_EC2_METADATA_DISABLED="true", AWS_MAX_ATTEMPTS="1", HOME=str(tmp_path))
    with s3() as address:
        set_up_s3(second, address, bucket="other")
        assert "'shared' (s3://other/mlegfn): no such bucket or folder" in refused(second, "restore")
        second.run("dvc", "remote", "modify", "shared", "url", "s3://results/mlegfn")
        assert "lacks it" in refused(second, "restore")
        import requests

        requests.post(
            f"{address}/moto-api/reset-auth", data=b"0", timeout=60
        )  # from now on it asks who it is
        assert "the credentials are refused" in refused(second, "restore")
        second.run("dvc", "remote", "modify", "--local", "--unset", "shared", "access_key_id")
        second.run("dvc", "remote", "modify", "--local", "--unset", "shared", "secret_access_key")
        assert "no credentials" in refused(second, "restore")
    set_up_s3(second, address)
    assert "not reachable" in refused(second, "restore")


def test_errors_of_ssh(committed, tmp_path):
    second = clone(committed, tmp_path / "second")
    with ssh(tmp_path) as (address, home):
        set_up_ssh(second, address, home)
        assert "lacks it" in refused(second, "restore")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / "another"], check=True)
        second.run("dvc", "remote", "modify", "--local", "shared", "keyfile", home / "another")
        assert "the credentials are refused" in refused(second, "restore")
    assert "not reachable" in refused(second, "restore")


def test_a_stage_uses_nothing_that_is_not_as_it_was_made(committed, tmp_path):
    """A bit flips, and no time, size or mode: the stage that reads it refuses, and no stage has to run again."""
    checkout = committed.duplicate(tmp_path / "checkout")
    assert dvc_status(checkout) == set()  # from here on DVC believes what it has read
    weights = next((checkout.root / CHECKPOINT).rglob("*.safetensors")).relative_to(checkout.root)
    spoiled = {"nll@smoke-baseline-4": [DATA, str(weights)], "tables@smoke": [METRIC]}
    for path in (DATA, weights, METRIC):
        flip(checkout.root / path)
    assert dvc_status(checkout) == set(), "DVC does not see it"
    before = {path: (checkout.root / path).read_bytes() for path in (DATA, weights, METRIC)}
    for stage, paths in spoiled.items():
        failed = checkout.run("mlegfn", "dvc", "repro", "--force", "--single-item", stage, check=False)
        assert failed.returncode != 0
        (said,) = [line for line in failed.stdout.splitlines() if line.startswith("mlegfn: ")]
        assert all(path in said for path in paths) and "dvc.lock records" in said and "make reproduce" in said
    assert before == {path: (checkout.root / path).read_bytes() for path in before}, "only named, not touched"
    ran = runs(checkout)
    shown = checkout.run("mlegfn", "reproduce", "--scale", "smoke").stdout
    assert f"{DATA}: was altered, is as recorded again" in shown
    assert f"{weights} of {CHECKPOINT}: was altered, is as recorded again" in shown
    again = {name for name, count in runs(checkout).items() if count > ran[name]}
    assert not again, "the cache and git have everything"
    assert outputs(checkout) == outputs(committed)


def test_a_damaged_cache_object_is_not_delivered(committed, tmp_path):
    checkout = committed.duplicate(tmp_path / "checkout")
    cache = checkout.root / ".dvc/cache"
    spoiled = object_of(cache, recorded(checkout)[LIST])
    flip(spoiled)
    assert "1 not as recorded" in refused(checkout, "verify")
    assert object_of(cache, recorded(checkout)[LIST]).read_bytes() == (checkout.root / LIST).read_bytes()
    checkout.run("mlegfn", "verify")  # made again from the workspace
    flip(spoiled)
    (checkout.root / LIST).unlink()
    ran = runs(checkout)
    shown = checkout.run("mlegfn", "dvc", "repro", "--single-item", "fetch@smoke").stdout
    assert "damaged (MD5" in shown and LIST in shown
    assert {name for name, count in runs(checkout).items() if count > ran[name]} == {"fetch@smoke"}
    assert outputs(checkout) == outputs(committed)
    assert len(list((cache / "damaged").iterdir())) == 1


def test_a_damaged_remote_object_is_not_delivered(in_folder, tmp_path):
    first = in_folder[0].duplicate(tmp_path / "first")
    remote = tmp_path / "remote"
    subprocess.run(["cp", "-a", in_folder[1], remote], check=True)
    first.run("dvc", "remote", "modify", "shared", "url", remote)
    commit(first)
    folder = recorded(first)[CHECKPOINT]
    inside = json.loads(object_of(remote, folder).read_text())[0]
    for md5, name in (
        (folder, CHECKPOINT),
        (inside["md5"], f"{CHECKPOINT}/{inside['relpath']}"),
        (recorded(first)[DATA], DATA),
    ):
        flip(object_of(remote, md5))
        second = clone(first, tmp_path / md5)
        said = refused(second, "restore")
        assert name in said and "damaged (MD5" in said and "--remote --mend" in said
        assert not (second.root / name).exists()
        missing = set(outputs(first)) - set(outputs(second))
        assert missing <= set(outputs(first)) and all(
            path.startswith(name.split("/pretrain-4/")[0]) for path in missing
        )
        said = first.run("mlegfn", "verify", "--remote", check=False)
        assert said.returncode == 2 and f"{name}: its object {md5} at 'shared' is" in said.stdout
        first.run("mlegfn", "verify", "--remote", "--mend")
        second.run("mlegfn", "restore")
        assert outputs(second) == outputs(first)
    object_of(remote, inside["md5"]).unlink()  # DVC would not send it again: the folder's list is there
    first.run("mlegfn", "record")
    assert object_of(remote, inside["md5"]).exists()


def test_restore_does_not_replace_what_nobody_recorded(in_folder, tmp_path):
    second = clone(in_folder[0], tmp_path / "second")
    (second.root / LIST).parent.mkdir(parents=True)
    (second.root / LIST).write_text("mine")
    assert LIST in refused(second, "restore")
    assert (second.root / LIST).read_text() == "mine"
    (second.root / LIST).unlink()
    second.run("mlegfn", "restore", "--scale", "smoke")
    assert outputs(second) == outputs(in_folder[0])


def test_two_peoples_runs_are_merged_by_entries(in_folder, tmp_path):
    """Each changes a number and runs what the tables need; merged, DVC's view is exactly right, and the result too."""
    start, _ = in_folder
    edits = {
        "ours": ("    quality:\n      seed: 0", "    quality:\n      seed: 1"),
        "theirs": ("      hidden: 8\n      layers: 1", "      hidden: 9\n      layers: 1"),
    }
    ours, theirs, clean = (start.duplicate(tmp_path / name) for name in ("ours", "theirs", "clean"))
    for checkout in (ours, theirs):
        checkout.edit("params.yaml", *edits[checkout.root.name])
        checkout.run("mlegfn", "dvc", "repro", "tables@smoke")
        commit(checkout)
    merging = ours.run("git", "pull", "-q", "--no-rebase", theirs.root, check=False)
    assert (
        merging.returncode != 0
        and "dvc.lock" in ours.run("git", "diff", "--name-only", "--diff-filter=U").stdout
    )
    assert "tables@smoke: recorded differently by both" in ours.run("mlegfn", "resolve").stdout
    assert "no conflict here" in refused(ours, "resolve")
    ours.run("git", "commit", "-qm", "merged")

    # What is stale now: the checkpoints and samples that only they have, as bytes; and the tables, on either account.
    entries = [lockfile.read(c.root / "dvc.lock") for c in (ours, start, theirs)]
    planar = {name for name in entries[0] if name.startswith("planar@")}
    quality = {name for name in entries[0] if name.startswith("quality@")}
    assert {n for n in entries[0] if entries[0][n] != entries[1][n]} == planar | quality
    assert all(entries[0][name] == entries[2][name] for name in planar)
    assert dvc_status(ours) == planar | REPORTS
    ours.run("dvc", "cache", "dir", theirs.root / ".dvc/cache")  # in place of their `make record`
    ran = runs(ours)
    for stage in planar:
        ours.run("mlegfn", "dvc", "checkout", stage)
    assert dvc_status(ours) >= REPORTS and not dvc_status(ours) & planar
    ours.run("mlegfn", "dvc", "repro", "tables@smoke", check=False)
    assert {name for name, count in runs(ours).items() if count > ran[name]} == {"tables@smoke"}

    for before, after in edits.values():
        clean.edit("params.yaml", before, after)
    clean.run("mlegfn", "dvc", "repro", "tables@smoke")
    kept = [
        path
        for path in results(clean)
        if path.startswith(("tables/nll", "tables/quality", "tables/planar", "metrics"))
    ]
    assert {path: results(ours)[path] for path in kept} == {path: results(clean)[path] for path in kept}
    assert (
        lockfile.read(ours.root / "dvc.lock")["tables@smoke"]
        == lockfile.read(clean.root / "dvc.lock")["tables@smoke"]
    )


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


def test_resolve_leaves_peoples_own_conflicts_to_them(committed, tmp_path):
    checkout = clone(committed, tmp_path / "checkout")
    first = checkout.run("git", "branch", "--show-current").stdout.strip()
    checkout.run("git", "branch", "other")
    for branch, value in (("other", 1), (first, 2)):
        checkout.run("git", "checkout", "-q", branch)
        checkout.edit("params.yaml", "    quality:\n      seed: 0", f"    quality:\n      seed: {value}")
        checkout.run("git", "commit", "-qam", "seed")
    assert checkout.run("git", "merge", "-q", "other", check=False).returncode != 0
    assert "params.yaml: resolve this conflict first" in refused(checkout, "resolve")


def test_a_killed_run_leaves_no_lock_and_a_living_one_is_named(pristine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = "import time\nfrom mlegfn.pipeline.one_run import only_one\nwith only_one('restore'):\n print(flush=True)\n time.sleep(600)"
    owner = subprocess.Popen([sys.executable, "-c", held], env=pristine.environment, stdout=subprocess.PIPE)
    owner.stdout.readline()
    with (
        pytest.raises(UserError, match=rf"another `mlegfn restore` \(process {owner.pid} on "),
        one_run.only_one("x"),
    ):
        pass
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    with one_run.only_one("x"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_refused(number, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(UserError, match="no file locks"), one_run.only_one("x"):
        pass


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_lock_that_cannot_be_written_is_not_blamed_on_locks(number, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(OSError) as raised, one_run.only_one("x"):
        pass
    assert raised.value.errno == number
