"""Live curves: what TensorBoard reads is the stage's log, resumed or not, and no artifact knows of it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.image_stages import image_settings, prepare, run_stage

from mlegfn.errors import Interrupted, UserError
from mlegfn.training.loop import read
from mlegfn.training.scratch import Scratch
from reproduction.images import live

SHORT = {"pretrain__checkpoints": [4, 8], "pretrain__stop": 9, "machine__save_every_minutes": 1e-9}
SHORT |= {"pretrain__seeds": [0]}
PLAIN, WATCHED = image_settings(**SHORT), image_settings(**SHORT, machine__live="tensorboard")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with images."""
    folder = prepare(tmp_path_factory.mktemp("live"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stage("images.fetch", PLAIN)
    return folder


def curves(name):
    """The curves of a part of the scale smoke."""
    return shown(Path("results/smoke/logs/tensorboard", name))


def shown(folder):
    """{tag: [(step, value)]} as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def logged(path):
    """The same from a metrics file, in single precision as TensorBoard keeps it."""
    log = json.loads(Path("results/smoke/images/metrics", path).read_text())["log"]
    tags = [key for key in log[0] if key != "step"]
    return {tag: [(e["step"], torch.tensor(e[tag]).item()) for e in log] for tag in tags}


def outputs():
    root = Path("results/smoke/images")
    return {
        str(path): path.read_bytes()
        for kind in ("metrics", "checkpoints")
        for path in sorted((root / kind).rglob("*"))
        if path.is_file()
    }


def test_curves_are_the_log_and_artifacts_are_the_same(prepared, tmp_path, monkeypatch):
    """Pretraining asked to stop, then dead with a step in its curve that its state has not; fine-tuning to two points."""
    save, made = Scratch.save, []
    for settings in (PLAIN, WATCHED):
        folder = tmp_path / str(settings.machine.live)
        shutil.copytree(prepared, folder, symlinks=True)
        monkeypatch.chdir(folder)
        if settings.machine.live:
            for failing, error in ((stops_after(save, 5), Interrupted), (dies_before(save, 7), SystemExit)):
                monkeypatch.setattr(Scratch, "save", failing)
                with pytest.raises(error):
                    run_stage("images.pretrain", settings)
            monkeypatch.setattr(Scratch, "save", save)
        run_stage("images.pretrain", settings)
        run_stage("images.finetune", settings, "simple_tbc")
        made.append(outputs())
    assert made[0] == made[1] and len(made[0]) > 10
    assert not (tmp_path / "None/results/smoke/logs").exists()

    found = curves("pretrain@smoke-8-0")
    assert found == logged("pretrain/8-0.json")
    assert {"loss", "grad_norm"} <= set(found) and [step for step, _ in found["loss"]] == [5, 6, 7, 8]
    tuned = curves("finetune@smoke-simple_tbc-4-0")
    assert tuned == logged("finetune/simple_tbc/4-0.json")
    assert len(tuned) > 2 and [step for step, _ in tuned["loss"]] == [1, 2, 3, 4]


def stops_after(save, step):
    """A ``Scratch.save`` after which the process is asked to stop, once it has saved ``step``."""

    def stopping(scratch, state):
        save(scratch, state)
        if state.step == step:
            raise Interrupted("stop")

    return stopping


def dies_before(save, step):
    """A ``Scratch.save`` that dies when it is to save ``step``."""

    def dying(scratch, state):
        if state.step == step:
            raise SystemExit("dead")
        save(scratch, state)

    return dying


def test_a_run_that_was_not_watched_shows_its_past(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path / "x", symlinks=True)
    monkeypatch.chdir(tmp_path / "x")
    save = Scratch.save
    monkeypatch.setattr(Scratch, "save", stops_after(save, 6))
    with pytest.raises(Interrupted):
        run_stage("images.pretrain", PLAIN)
    monkeypatch.setattr(Scratch, "save", save)
    run_stage("images.pretrain", WATCHED)
    assert [step for step, _ in curves("pretrain@smoke-8-0")["loss"]] == [5, 6, 7, 8]


def stage_of(settings):
    return SimpleNamespace(scale="smoke", name="pretrain@smoke", settings=settings)


def test_tensors_are_not_read_before_the_loop_reads_them(tmp_path, monkeypatch):
    """On a GPU a step's entry holds tensors until the loop turns a hundred of them into numbers at once."""
    monkeypatch.chdir(tmp_path)
    entries = [{"step": s, "loss": torch.tensor(float(s)), "grad_norm": torch.tensor(1.0)} for s in (1, 2, 3)]
    asked = []
    monkeypatch.setattr(torch.Tensor, "__float__", lambda *_: asked.append(1) or 0.0)
    at_save = []  # what a training that is killed right after this save leaves behind
    scratch = SimpleNamespace(save=lambda _: at_save.append(curves("pretrain@smoke-4")["loss"]), logs=[])
    state = SimpleNamespace(step=0)
    with live.recorded(stage_of(WATCHED), "4", state, scratch) as (after_step, saver):
        for entry in entries:
            after_step(state, entry)
        assert not curves("pretrain@smoke-4")
        read(list(entries))
        saver.save(state)
    assert not asked and scratch.logs == entries
    assert at_save == [[(1, 1.0), (2, 2.0), (3, 3.0)]]


def test_nobody_watches_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scratch, state = SimpleNamespace(logs=[]), SimpleNamespace(step=0)
    for settings, rank in ((WATCHED, "1"), (PLAIN, "0")):  # one rank of several writes
        monkeypatch.setenv("RANK", rank)
        with live.recorded(stage_of(settings), "4", state, scratch) as (after_step, saver):
            after_step(state, {"step": 1, "loss": 1.0})
        assert saver is scratch
    assert len(scratch.logs) == 2 and not list(tmp_path.iterdir())


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    scratch, state = SimpleNamespace(logs=[]), SimpleNamespace(step=0)
    with (
        pytest.raises(UserError, match=r"images\.smoke\.machine\.live: tensorboard is not installed"),
        live.recorded(stage_of(WATCHED), "4", state, scratch),
    ):
        pass
