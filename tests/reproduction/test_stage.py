"""What a stage is told, what it refuses to read, and which of its parts are finished."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers import toy
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction import hashes
from reproduction import params as settings
from reproduction.settings.yaml_file import read_yaml
from reproduction.stage import Stage, code_hash, declaration, recorded_outputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two stages' declarations, settings and sources; nothing has run."""
    monkeypatch.chdir(tmp_path)
    return toy.lay_out(tmp_path)


@cache
def params():
    return settings.load(REPOSITORY / "params.yaml")


def pretrain():
    return Stage("images.pretrain", "smoke", None, params())


def write(path, text="text"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return path


# ---------------------------------------------------------------- what a stage is told


def test_a_stage_knows_what_dvc_yaml_says_of_it(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    family = Stage("families.train", "digits", "hvae", params())
    assert family.name == "family@digits-hvae" and family.settings is params().families["digits"]
    assert "src/mlegfn/families/hvae.py" in family.code and len(family.code_hash) == 64
    assert family.outputs[-1] == "results/digits/families/metrics/hvae.json"
    assert family.parameters == ["families.digits.seeds", "families.digits.settings.hvae"]
    assert family.path("metrics", "hvae.json") == Path("results/digits/families/metrics/hvae.json")
    finetune = Stage("images.finetune", "cifar10_hour", "simple_tbc", params())
    assert finetune.name == "finetune@cifar10_hour-simple_tbc" and finetune.needs_gpu
    assert finetune.parameters[-2] == "images.cifar10_hour.finetune.simple_tbc"
    assert finetune.outputs[0] == "results/cifar10_hour/images/checkpoints/simple_tbc"
    assert finetune.data == Path("data/cifar10_hour") and finetune.items == [
        "simple",
        "simple_tbc",
        "reweighted",
        "vlb",
        "vlb_tbc",
    ]
    fetch = Stage("images.fetch", "digits", None, params())
    assert fetch.name == "fetch@digits" and fetch.outputs == ["data/digits"] and not fetch.needs_gpu
    station = Stage("gallery.run_reading_station", "gallery", "samplers", params())
    assert station.entry.reads == "algorithms"
    assert station.parameters == ["gallery.gallery.samplers", "gallery.gallery.algorithms"]
    assert "claims/planar.yaml" in Stage("planar.report", "smoke", None, params()).code


def test_every_stage_of_dvc_yaml_has_a_module_and_its_code(monkeypatch):
    """A folder that dvc.yaml forgot, or names wrongly, would let parts pass that other code made."""
    monkeypatch.chdir(REPOSITORY)
    stages = read_yaml("dvc.yaml")["stages"]
    for definition in stages.values():
        command = definition.get("do", definition)["cmd"].split()
        module, item = command[2], None
        path = Path("src/reproduction", *module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), module
        if len(command) > 4:
            item = (
                "clip"
                if module == "gallery.run_prior"
                else params().items(module.partition(".")[0], "smoke")[0]
            )
        stage = Stage(module, "smoke", item, params())  # a missing file of source code is an error
        assert len(stage.code) > 1 or module == "images.fetch", module


def test_a_module_that_no_stage_runs(folder):
    with pytest.raises(UserError, match=r"images\.report: no stage of dvc\.yaml runs it"):
        declaration("images.report")


def test_the_code_hash_is_of_every_python_file(folder):
    write("src/library/a.py", "1"), write("src/library/inner/b.py", "2")
    known = code_hash(["src/library"])
    write("src/library/__pycache__/a.pyc", "3"), write("src/library/notes.txt", "4")
    assert code_hash(["src/library"]) == known
    write("src/library/inner/b.py", "3")
    assert code_hash(["src/library"]) != known
    write("src/library/inner/b.py", "2")
    assert code_hash(["src/library"]) == known
    Path("src/library/a.py").rename("src/library/c.py")
    assert code_hash(["src/library"]) != known
    with pytest.raises(UserError, match=r"src/none: not found, but dvc.yaml names it"):
        code_hash(["src/library", "src/none"])


# ---------------------------------------------------------------- inputs


@pytest.mark.parametrize("text", ["", "stages: 3", "a: [", "stages:\n  a:\n    outs:\n    - path: x\n"])
def test_a_dvc_lock_that_dvc_did_not_write(folder, text):
    Path("dvc.lock").write_text(text)
    with pytest.raises(UserError, match=r"^dvc\.lock: not as DVC writes it"):
        recorded_outputs(attempts=1)


def test_a_dvc_lock_cut_anywhere_is_broken_or_lacks_stages(folder, monkeypatch):
    """Of every prefix, what is read of it is true."""
    lines = (REPOSITORY / "dvc.lock").read_text().splitlines(keepends=True)
    ends = [i for i, line in enumerate(lines) if line.startswith("  ") and line[2] != " "]
    whole = "".join(lines[: ends[3]])
    Path("dvc.lock").write_text(whole)
    true = recorded_outputs()
    assert len(true) >= 3
    for size in range(0, len(whole), 7):
        Path("dvc.lock").write_text(whole[:size])
        try:
            found = recorded_outputs(attempts=1)
        except UserError:
            continue
        assert found.items() <= true.items(), whole[:size]


@pytest.mark.parametrize("cut", [60, -10], ids=["before the hash", "inside the hash, valid YAML"])
def test_a_dvc_lock_that_dvc_is_writing_is_read_again(folder, monkeypatch, cut):
    write("data/smoke/images.txt")
    toy.write_lock(toy.entry("fetch@smoke", ["data/smoke"]))
    whole = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(whole[:cut])
    monkeypatch.setattr("time.sleep", lambda _: Path("dvc.lock").write_text(whole))
    assert recorded_outputs() == {"data/smoke": ("fetch@smoke", hashes.md5("data/smoke"))}


def test_an_input_is_read_only_as_it_was_made(folder):
    write("data/smoke/a/images.txt")
    toy.write_lock(toy.entry("fetch@smoke", ["data/smoke"]))
    stage = pretrain()
    assert stage.input("data/smoke/a/images.txt") == Path("data/smoke/a/images.txt")
    assert list(stage.inputs) == ["data/smoke"], "the output that it lies in is what is recorded"
    with pytest.raises(UserError, match=r"data/smoke/b: not found"):
        stage.input("data/smoke/b")
    write("data/smoke/a/images.txt", "other")
    with pytest.raises(UserError, match=r"^data/smoke: not what fetch@smoke made .* dvc\.lock records"):
        pretrain().input("data/smoke/a/images.txt")
    Path("data/smoke/a/images.txt").unlink(), Path("data/smoke/a").rmdir(), Path("data/smoke").rmdir()
    with pytest.raises(UserError, match=r"^data/smoke: not found; fetch@smoke makes it"):
        pretrain().input("data/smoke")


def test_a_folder_of_several_stages_outputs_is_all_of_them(folder):
    inner = [write(f"results/smoke/images/metrics/{name}/4.json") for name in ("pretrain", "nll", "quality")]
    folders = [str(Path(path).parent) for path in inner]
    toy.write_lock(toy.entry("other@smoke", folders[1:]) | toy.entry("pretrain@smoke", folders[:1]))
    stage = pretrain()
    stage.input("results/smoke/images/metrics")
    assert list(stage.inputs) == folders[1:], "its own output is none of its inputs"
    write(inner[2], "other")
    with pytest.raises(UserError, match="metrics/quality: not what other@smoke made"):
        pretrain().input("results/smoke/images/metrics")


# ---------------------------------------------------------------- parts


def a_part(name="4", settings=None, inputs=(), outputs=None):
    stage = pretrain()
    return stage.part(
        name, outputs or [stage.path("metrics/pretrain", f"{name}.json")], settings or {"a": 1}, inputs
    )


def finished(*arguments, **options):
    return a_part(*arguments, **options).finished


def finish(*arguments, **options):
    part = a_part(*arguments, **options)
    for path in part.outputs:
        write(path)
    part.finish()
    return part


def test_a_part_is_finished_as_long_as_all_that_made_it_is_the_same(folder):
    write("data/smoke/images.txt", "16")
    toy.write_lock(toy.entry("fetch@smoke", ["data/smoke"]))
    assert not finished(inputs=["data/smoke"])
    part = finish(inputs=["data/smoke"])
    assert finished(inputs=["data/smoke"]) and finished(settings={"a": 1}, inputs=["data/smoke"])
    assert not finished("5", inputs=["data/smoke"])
    assert not finished(settings={"a": 2}, inputs=["data/smoke"])
    assert not finished(inputs=[]), "another list of inputs"
    assert not finished(inputs=["data/smoke"], outputs=[*part.outputs, "results/more"])

    source = folder.root / "src/reproduction/images/pretrain.py"
    source.write_text(toy.PRETRAIN + "\n")
    assert not finished(inputs=["data/smoke"])
    source.write_text(toy.PRETRAIN)
    assert finished(inputs=["data/smoke"])

    write("data/smoke/images.txt", "17")
    toy.write_lock(toy.entry("fetch@smoke", ["data/smoke"]))
    assert not finished(inputs=["data/smoke"])
    write("data/smoke/images.txt", "16")
    toy.write_lock(toy.entry("fetch@smoke", ["data/smoke"]))

    write(part.outputs[0], "another")
    assert not finished(inputs=["data/smoke"])
    part.outputs[0].unlink()
    assert not finished(inputs=["data/smoke"])
    write(part.outputs[0])
    assert finished(inputs=["data/smoke"])


def test_the_order_of_settings_does_not_matter(folder):
    finish(settings={"a": 1, "b": {"c": 2, "d": 3}})
    assert finished(settings={"b": {"d": 3, "c": 2}, "a": 1})


@pytest.mark.parametrize(
    "text", ["", "{", "<<<<<<< ours\n", "[]", '{"4": 3}', '{"4": {}}', '{"4": {"outputs": 1}}']
)
def test_a_broken_list_of_parts_holds_none(folder, text):
    part = finish()
    pretrain().parts_file.write_text(text)
    assert not finished()
    pretrain().forget_others()
    assert part.outputs[0].exists()
    finish()
    assert finished()


def test_saved_states_belong_to_one_fingerprint(folder):
    first, other = a_part(), a_part(settings={"a": 2})
    assert first.scratch == a_part().scratch != other.scratch
    write(first.scratch / "state"), write(other.scratch / "state")
    finish()
    assert not first.scratch.exists() and other.scratch.exists()


def test_parts_that_are_no_longer_asked_for_are_deleted(folder):
    outputs = {
        name: [f"results/smoke/images/checkpoints/baseline/{name}", "results/smoke/images/all.json"]
        for name in "ab"
    }
    stage = pretrain()
    for name, paths in outputs.items():
        write(f"{paths[0]}/weights.txt"), write(paths[1])
        stage.part(name, paths, {}).finish()
    stage.forget_others()
    assert set(stage.read_parts()) == {"a", "b"}
    later = pretrain()
    assert later.part("b", outputs["b"], {}).finished
    later.forget_others()
    assert set(later.read_parts()) == {"b"}
    assert not Path(outputs["a"][0]).exists() and all(Path(path).exists() for path in outputs["b"])


def test_a_kept_part_is_computed_once_and_read_back(folder):
    calls = []

    def compute():
        calls.append(1)
        return {"pair": (1, 2.5), "n": len(calls)}, {"x": torch.arange(6.0).view(2, 3).T}

    def keep(**changes):
        return pretrain().keep("seed-0", {"seed": 0, **changes}, compute)

    first, again = keep(), keep()
    assert first[0] == again[0] == {"pair": [1, 2.5], "n": 1}, (
        "as it is read from the disk, the first time too"
    )
    assert torch.equal(again[1]["x"], torch.arange(6.0).view(2, 3).T) and calls == [1]
    files = [
        Path("results/smoke/images/runs/pretrain", f"seed-0.{ending}") for ending in ("json", "safetensors")
    ]
    assert all(file.exists() for file in files)
    assert keep(rate=0.1)[0]["n"] == 2
    files[0].write_text(json.dumps({"n": 9}))
    assert keep(rate=0.1)[0]["n"] == 3, "what somebody changed is not believed"
    pretrain().forget_others()
    assert not any(file.exists() for file in files)
