"""How the stages ran: dvc.lock and the records of runs count together, or the record does not count."""

import json

import pytest

from reproduction.site.records import Records, device

STAGES = {
    "planar@digits-moons": {"results/digits/planar/metrics/moons.json": "a" * 32},
    "planar_report@digits": {
        "results/digits/planar/figures": "b" * 32 + ".dir",
        "results/digits/planar/report": "c" * 32,
    },
    "fetch@digits": {"data/digits/images.safetensors": "d" * 32},
}


def record(stage, **more):
    """A record of a run with every field."""
    return {
        "stage": stage,
        "command": f"mlegfn stage {stage}",
        "commit": "0" * 40,
        "dirty": False,
        "started": "2026-11-24T12:00:00Z",
        "wall_s": 10.5,
        "peak_memory_mib": 100.0,
        "parameters": {},
        "seeds": {},
        "inputs": {},
        "outputs": STAGES[stage],
        "device": {"kind": "cpu", "name": "x", "cores": 2},
        "python": "3.11",
        "packages": {},
        "requirements_lock": None,
        **more,
    }


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with a dvc.lock of STAGES and no record."""
    stages = {
        name: {"outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}
        for name, outs in STAGES.items()
    }
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": stages}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(root, found):
    folder = root / "results/digits/planar/provenance"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{found['stage']}.json").write_text(json.dumps(found))


def test_the_stage_of_a_file_is_that_of_the_output_it_lies_in(root):
    records = Records()
    assert records.stage_of("results/digits/planar/figures/figure2.svg") == "planar_report@digits"
    assert records.stage_of("results/digits/planar/metrics/moons.json") == "planar@digits-moons"
    assert records.stage_of("results/digits/planar/tables/planar.md") is None
    assert set(records.shown) == {"planar_report@digits", "planar@digits-moons"}
    assert records.has_scale("digits") and not records.has_scale("smoke")


def test_without_a_dvc_lock_nothing_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = Records()
    assert records.stage_of("results/digits/planar/figures/figure2.svg") is None
    assert records.measured("digits", "planar") is None and not records.has_scale("digits")


def test_a_record_counts_while_dvc_lock_names_its_outputs(root):
    write(root, record("planar_report@digits"))
    shown = Records().record("planar_report@digits")
    assert shown["recorded"] and shown["command"] and shown["device_text"] == "cpu: x, 2 cores"


@pytest.mark.parametrize("how", ["missing", "other MD5", "other path", "no JSON", "a list", "a field less"])
def test_otherwise_only_dvc_lock_counts(root, how):
    run = record("planar_report@digits")
    if how == "other MD5":
        run["outputs"] = dict.fromkeys(run["outputs"], "e" * 32)
    if how == "other path":
        run["outputs"] = {**run["outputs"], "results/digits/planar/more": "e" * 32}
    if how == "a field less":
        del run["wall_s"]
    if how != "missing":
        write(root, run)
    path = root / "results/digits/planar/provenance/planar_report@digits.json"
    if how in ("no JSON", "a list"):
        path.write_text("[]" if how == "a list" else "{")
    records = Records()
    shown = records.record("planar_report@digits")
    assert not shown["recorded"] and shown["commit"] is None
    assert shown["outputs"] == STAGES["planar_report@digits"]
    assert records.measured("digits", "planar") is None


def test_what_the_stages_of_an_experiment_took_is_added_up(root):
    write(root, record("planar_report@digits"))
    assert Records().measured("digits", "planar") == {
        "stages": 2,
        "recorded": 1,
        "seconds": 10.5,
        "peak_memory_mib": 100.0,
        "devices": ["cpu: x, 2 cores"],
    }
    write(root, record("planar@digits-moons", wall_s=1.5, peak_memory_mib=None, device=None))
    both = Records().measured("digits", "planar")
    assert (both["recorded"], both["seconds"], both["peak_memory_mib"]) == (2, 12.0, 100.0)
    assert both["devices"] == ["cpu: x, 2 cores", "not recorded"]


def test_a_device_in_words():
    assert device({"device": None}) == "not recorded"
    assert device({"device": {"kind": "cuda", "name": "H200"}}) == "cuda: H200"
