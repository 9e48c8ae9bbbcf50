"""`mlegfn bundle`: complete, verifiable, equal for equal commits, and of nothing that is not committed and fresh."""

import hashlib
import json
import subprocess
import zipfile
from urllib.parse import unquote

import pytest

from mlegfn.errors import UserError
from mlegfn.pipeline import bundle, crate, fresh, hashes

AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@test")


def commit(checkout):
    checkout.run("git", "add", "-A")
    checkout.run("git", *AUTHOR, "commit", "-qm", "results")


def clone(checkout, destination):
    """A clone: what git tracks, no cache, no checkpoints."""
    subprocess.run(["git", "clone", "-q", checkout.root, destination], check=True)
    return type(checkout)(destination, {k: v for k, v in checkout.environment.items() if k != "PATH"})


def refused(checkout, *options):
    """The one line with which `mlegfn bundle` refuses; there is no archive then, nor part of one."""
    done = checkout.run("mlegfn", "bundle", "--out", "build/refused.zip", *options, check=False)
    assert done.returncode == 2 and done.stdout.count("\n") == 1, done.stdout
    assert not list(checkout.root.glob("build/*refused*"))
    return done.stdout


@pytest.fixture(scope="module")
def released(snakemade, tmp_path_factory):
    """The checkout of `snakemade` with its results committed, one of its stages with a provenance record, bundled
    with checkpoints."""
    checkout = snakemade.duplicate(tmp_path_factory.mktemp("bundle") / "checkout")
    made = {path: hashes.md5(checkout.root / path) for path in ("results/smoke/metrics/nll/baseline-4.json",)}
    record = {
        "started": "2026-01-02T03:04:05+00:00",
        "wall_s": 61.5,
        "device": {"kind": "cpu", "name": "a CPU", "cores": 2, "machine": "x86_64"},
        "outputs": made,
    }
    for name, outputs in (("nll@smoke-baseline-4", made), ("tables@smoke", {"results/other": "0"})):
        path = checkout.root / f"results/smoke/provenance/{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record | {"outputs": outputs}))
    commit(checkout)
    checkout.bundled = checkout.run("mlegfn", "bundle", "--with-checkpoints", "--out", "build/all.zip").stdout
    return checkout


def test_unpacked_it_verifies_and_holds_what_git_tracks(released, tmp_path):
    with zipfile.ZipFile(released.root / "build/all.zip") as archive:
        archive.extractall(tmp_path)
        names = set(archive.namelist())
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    assert len((tmp_path / "SHA256SUMS").read_text().splitlines()) == len(names) - 1
    tracked = set(released.run("git", "ls-files", "-z").stdout.split("\0")) - {""}
    assert {"CITATION.cff", "LICENSE", "README.md", "claims.yaml", "dvc.lock", "dvc.yaml"} < tracked < names
    assert {"results/smoke/figures/figure1.png", "results/smoke/report/verdict.json"} < tracked
    for path in tracked:
        assert (tmp_path / path).read_bytes() == (released.root / path).read_bytes()
    extra = names - tracked - {"SHA256SUMS", "ro-crate-metadata.json"}
    assert any(
        path.endswith("checkpoints/pretrain-4/unet/diffusion_pytorch_model.safetensors") for path in extra
    )
    assert {path.split("/")[0] for path in extra} == {"results"}
    for name, entry in lock(released).items():
        for out in entry["outs"]:
            if not out["path"].startswith("data/"):
                assert hashes.md5(tmp_path / out["path"]) == out["md5"], name


def lock(checkout):
    import os

    before = os.getcwd()
    os.chdir(checkout.root)
    try:
        return fresh.lock_entries()
    finally:
        os.chdir(before)


def references(value):
    if isinstance(value, dict):
        return [value["@id"]] if set(value) == {"@id"} else []
    return [found for each in value for found in references(each)] if isinstance(value, list) else []


def test_the_crate_names_every_file_and_every_run(released, tmp_path):
    from rocrate.rocrate import ROCrate

    with zipfile.ZipFile(released.root / "build/all.zip") as archive:
        archive.extractall(tmp_path)
        names = set(archive.namelist())
    found = ROCrate(tmp_path)
    files = {unquote(entity.id): entity for entity in found.data_entities}
    assert set(files) == names - {"ro-crate-metadata.json"}
    for path, entity in files.items():
        assert (tmp_path / path).is_file()
        if path != "SHA256SUMS":
            content = (tmp_path / path).read_bytes()
            assert entity["contentSize"] == str(len(content))
            assert entity["sha256"] == hashlib.sha256(content).hexdigest()
            assert entity["license"].id == "https://spdx.org/licenses/MIT"
        assert "/" in entity["encodingFormat"]
    assert found.mainEntity.id == "Snakefile" and "ComputationalWorkflow" in found.mainEntity.type
    assert found.mainEntity["programmingLanguage"]["name"] == "Snakemake"
    profiles = {"https://w3id.org/ro/crate/1.1", "https://w3id.org/workflowhub/workflow-ro-crate/1.0"}
    assert set(references(found.metadata.properties()["conformsTo"])) == profiles
    assert [author["name"] for author in found.root_dataset["author"]] == ["The mlegfn authors"]
    date = released.run("git", "show", "--no-patch", "--format=%cI").stdout.strip()
    assert found.root_dataset.properties()["datePublished"] == date

    ids = {entity.id for entity in found.get_entities()}
    for entity in found.get_entities():
        for value in entity.properties().values():
            assert all(ref in ids or ref.startswith("https://") for ref in references(value)), entity
    entries = lock(released)
    runs = {run["name"]: run for run in found.get_by_type("CreateAction")}
    assert set(runs) == set(entries) and len(found.root_dataset["mentions"]) == len(runs)
    run = runs["nll@smoke-baseline-4"]
    assert [each.id for each in run["instrument"]] == ["src/mlegfn/stages/nll.py", "Snakefile"]
    assert [each.id for each in run["result"]] == ["results/smoke/metrics/nll/baseline-4.json"]
    read = {each.id: each for each in run["object"]}
    assert "results/smoke/checkpoints/pretrain-4/model_index.json" in read
    assert json.loads(read["#setting/scales.smoke.nll"]["value"])["seed"] == 0
    data = next(each for each in run["object"] if each["name"] == "data/smoke/images.safetensors")
    assert data["identifier"] == f"md5:{hashes.md5(released.root / 'data/smoke/images.safetensors')}"
    assert (run["startTime"], run["endTime"]) == ("2026-01-02T03:04:05+00:00", "2026-01-02T03:05:06+00:00")
    assert unquote(run["subjectOf"].id) == "results/smoke/provenance/nll@smoke-baseline-4.json"
    assert "--step 4" in run["description"] and "a CPU: cpu, 2 cores, x86_64" in run["description"]
    assert "startTime" not in runs["tables@smoke"], "a record of other outputs is not of this run"


def test_equal_commits_give_equal_bytes(released, tmp_path):
    """Also in a clone that has only what git tracks, in another folder, time zone and umask."""
    released.run("mlegfn", "bundle", "--out", "build/plain.zip")
    other = clone(released, tmp_path / "elsewhere" / "clone")
    other.environment |= {"TZ": "Asia/Tokyo", "LC_ALL": "C"}
    shown = other.run("sh", "-c", "umask 077 && mlegfn bundle").stdout
    (made,) = other.root.glob("build/*.zip")
    assert made.read_bytes() == (released.root / "build/plain.zip").read_bytes()
    assert hashlib.sha256(made.read_bytes()).hexdigest() in shown
    head = other.run("git", "rev-parse", "HEAD").stdout.strip()
    assert made.name == f"mlegfn-0.1.0-{head[:12]}.zip" and head in shown

    assert "checkpoints/" in refused(other, "--with-checkpoints"), "a clone has none to include"
    other.edit("dvc.lock", lock(other)["trajectories@smoke"]["outs"][0]["md5"], "f" * 32)
    commit(other)
    said = refused(other)  # figures read other samples than dvc.lock now says were made
    assert said.startswith("mlegfn: figures@smoke: stale, results/smoke/samples (made anew since")


def test_refused_where_it_would_not_be_the_commit(released, tmp_path):
    other = released.duplicate(tmp_path / "checkout")
    (other.root / "stray").write_text("x")
    assert refused(other).startswith("mlegfn: stray: not committed (1 such")
    (other.root / "stray").unlink()

    weights = other.root / "results/smoke/checkpoints/pretrain-4/unet/diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    said = refused(other, "--with-checkpoints")
    assert "results/smoke/checkpoints/pretrain-4" in said and "stale" in said
    content[-1] ^= 1
    weights.write_bytes(content)

    assert "build: a folder" in other.run("mlegfn", "bundle", "--out", "build", check=False).stdout
    summary = (other.root / "results/summary.json").read_text()
    (other.root / "results/summary.json").write_text(summary.replace("not reproduced", "reproduced"))
    commit(other)
    assert refused(other).startswith("mlegfn: results/summary.json: not what the results say")
    (other.root / "results/summary.json").write_text(summary)

    other.edit("params.yaml", "    nll:\n      seed: 0", "    nll:\n      seed: 1")
    commit(other)
    assert "stale, scales.smoke.nll (modified); run `make reproduce`" in refused(other)
    (other.root / "dvc.lock").unlink()
    commit(other)
    assert refused(other).startswith("mlegfn: dvc.lock: not found")


def test_authors_and_formats():
    """People keep their ORCID; nothing asks the machine what a suffix means."""
    from rocrate.rocrate import ROCrate

    found = ROCrate(version=crate.VERSION)
    orcid = "https://orcid.org/0000-0000-0000-0001"
    person = crate.add_author(found, {"family-names": "B", "given-names": "A", "orcid": orcid})
    assert (person.id, person.type, person["name"]) == (orcid, "Person", "A B")
    licence = person
    for path, kind in (("a.csv", "text/csv"), (".gitignore", "text/plain"), ("b/Makefile", "text/plain")):
        member = bundle.Member.of_bytes(path, b"x")
        assert crate.add_file(found, member, licence)["encodingFormat"] == kind


@pytest.mark.parametrize("text", ["[", "title: a", "{title: a, license: MIT, authors: [{orcid: x}]}"])
def test_a_citation_without_what_is_needed_is_refused(text):
    with pytest.raises(UserError, match=r"^CITATION\.cff: needs `title`"):
        crate.read_citation({"CITATION.cff": bundle.Member.of_bytes("CITATION.cff", text.encode())})


def test_a_reference_is_named_by_what_it_has():
    from rocrate.rocrate import ROCrate

    paper = {"title": "A b", "authors": [{"name": "C"}]}
    for extra, identity in (
        ({}, "#A-b"),
        ({"notes": "arXiv 1234.5"}, "https://arxiv.org/abs/1234.5"),
        ({"notes": "arXiv 1234.5", "doi": "10.1/x"}, "https://doi.org/10.1/x"),
    ):
        assert crate.add_reference(ROCrate(version=crate.VERSION), paper | extra).id == identity
