"""Live curves: what TensorBoard reads is the stage's log, resumed or not, and no artifact knows of it."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from mlegfn import paths
from mlegfn.config import load
from mlegfn.data import load as load_data
from mlegfn.data import save_images
from mlegfn.errors import Interrupted, UserError
from mlegfn.pipeline import live
from mlegfn.stages import finetune, pretrain
from mlegfn.training.loop import read
from mlegfn.training.scratch import Scratch


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(scale smoke that saves after each step, folder with its images and its first checkpoint)."""
    scale = load("params.yaml").scale("smoke")
    scale = scale.model_copy(update={"engine": scale.engine.model_copy(update={"save_every_minutes": 1e-9})})
    folder = tmp_path_factory.mktemp("live")
    save_images(load_data(scale.data), folder / "data" / "smoke")
    with contextlib.chdir(folder):
        pretrain.run("smoke", scale, 4)
    return scale, folder


def watching(scale):
    return scale.model_copy(update={"engine": scale.engine.model_copy(update={"live": "tensorboard"})})


def curves(name):
    """The curves of a stage of the scale smoke."""
    return shown(live.folder("smoke", name))


def shown(folder):
    """{tag: [(step, value)]} as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def logged(path):
    """The same from a metrics file, in single precision as TensorBoard keeps it."""
    log = json.loads(path.read_text())["log"]
    tags = [key for key in log[0] if key != "step"]
    return {tag: [(e["step"], torch.tensor(e[tag]).item()) for e in log] for tag in tags}


def outputs():
    return {
        str(path): path.read_bytes()
        for kind in ("metrics", "checkpoints")
        for path in sorted(paths.results("smoke", kind).rglob("*"))
        if path.is_file()
    }


def stage(module, scale, name, **key):
    with live.watched(module, "smoke", scale, name):
        module.run("smoke", scale, **key)


def test_curves_are_the_log_and_artifacts_are_the_same(prepared, tmp_path, monkeypatch):
    """Pretraining asked to stop, then dead with a step in its curve that its state has not; fine-tuning to two points."""
    scale, first = prepared
    train, save = pretrain.train, Scratch.save
    for wanted in (scale, watching(scale)):
        folder = tmp_path / str(wanted.engine.live)
        shutil.copytree(first, folder)
        monkeypatch.chdir(folder)
        if wanted.engine.live:
            for failing, error in ((stops_after(save, 5), Interrupted), (dies_before(save, 7), SystemExit)):
                monkeypatch.setattr(Scratch, "save", failing)
                with pytest.raises(error):
                    stage(pretrain, wanted, "pretrain@smoke-8", step=8)
            monkeypatch.setattr(Scratch, "save", save)
        stage(pretrain, wanted, "pretrain@smoke-8", step=8)
        stage(finetune, wanted, "finetune@smoke-4-tbc-0", step=4, arm="tbc", seed=0)
        assert pretrain.train is train
    assert not (tmp_path / "None/results/smoke/logs").exists()
    unwatched = {}
    with contextlib.chdir(tmp_path / "None"):
        unwatched = outputs()
    assert outputs() == unwatched and len(unwatched) > 10

    found = curves("pretrain@smoke-8")
    assert found == logged(paths.results("smoke", "metrics", "pretrain", "8.json"))
    assert {"loss", "grad_norm"} <= set(found) and [step for step, _ in found["loss"]] == [5, 6, 7, 8]
    tuned = curves("finetune@smoke-4-tbc-0")
    assert tuned == logged(paths.results("smoke", "metrics", "finetune", "4-tbc-0.json"))
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
    scale, first = prepared
    shutil.copytree(first, tmp_path / "x")
    monkeypatch.chdir(tmp_path / "x")
    save = Scratch.save
    monkeypatch.setattr(Scratch, "save", stops_after(save, 6))
    with pytest.raises(Interrupted):
        stage(pretrain, scale, "pretrain@smoke-8", step=8)
    monkeypatch.setattr(Scratch, "save", save)
    stage(pretrain, watching(scale), "pretrain@smoke-8", step=8)
    assert [step for step, _ in curves("pretrain@smoke-8")["loss"]] == [5, 6, 7, 8]


def test_tensors_are_not_read_before_the_loop_reads_them(tmp_path, monkeypatch):
    """On a GPU a step's entry holds tensors until the loop turns a hundred of them into numbers at once."""
    monkeypatch.chdir(tmp_path)
    entries = [{"step": s, "loss": torch.tensor(float(s)), "grad_norm": torch.tensor(1.0)} for s in (1, 2, 3)]
    asked = []
    monkeypatch.setattr(torch.Tensor, "__float__", lambda *_: asked.append(1) or 0.0)
    written = []

    def training(state, after_step=None, saver=None):
        for entry in entries:
            after_step(state, entry)
        written.append(len(curves.pending))
        read(list(entries))
        saver.save(state)
        written.append(len(curves.pending))

    curves = live.Curves(tmp_path / "events")
    at_save = []  # what a training that is killed right after this save leaves behind
    saver = SimpleNamespace(save=lambda _: at_save.append(shown(tmp_path / "events")["loss"]), logs=[])
    options = {"saver": saver}
    state = SimpleNamespace(step=0)
    with curves.of(state, options):
        training(state, **options)
    curves.close()
    assert written == [3, 0] and not asked
    assert at_save == [[(1, 1.0), (2, 2.0), (3, 3.0)]]


def test_nobody_watches_unless_asked(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale, _ = prepared
    module = SimpleNamespace(train=print)
    monkeypatch.setenv("RANK", "1")
    with live.watched(module, "smoke", watching(scale), "x@smoke"):
        assert module.train is print  # one rank of several writes
    monkeypatch.delenv("RANK")
    with live.watched(SimpleNamespace(), "smoke", watching(scale), "x@smoke"):
        pass  # a stage that trains nothing
    with live.watched(module, "smoke", scale.model_copy(update={"engine": None}), "x@smoke"):
        assert module.train is print
    assert not list(tmp_path.iterdir())


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(UserError, match=r"engine\.live"),
        live.Curves(tmp_path).of(SimpleNamespace(step=0), {}),
    ):
        pass
