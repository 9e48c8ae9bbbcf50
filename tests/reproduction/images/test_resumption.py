"""A stage that is killed and started again writes what an uninterrupted one writes, byte for byte."""

import random
import shutil
import time
from pathlib import Path

import pytest
from helpers.image_processes import finetune, pretrain
from helpers.image_stages import image_settings, prepare, run_stage
from helpers.killed import ended, start

from mlegfn.errors import UserError

SETTINGS = image_settings(
    machine__save_every_minutes=1e-9,
    pretrain__checkpoints=[2],
    pretrain__stop=18,
    trajectories__checkpoint=2,
    pretrain__seeds=[0],
    finetune__all__evaluate_at=[3, 7],
    finetune__all__consistency__chunk=7,
    finetune__all__search__checkpoint=2,
    finetune__simple_tbc__weight=[0.01],
    finetune__simple__lr=[0.001],
    finetune__reweighted__weight=[0.01],
    network__dropout=0.3,
    data__flip=True,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with images."""
    folder = prepare(tmp_path_factory.mktemp("images"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stage("images.fetch", SETTINGS)
    return folder


@pytest.fixture(scope="module")
def pretrained(images, tmp_path_factory):
    """A folder with the baseline."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    shutil.copytree(images, folder, symlinks=True)
    assert ended(start(pretrain, folder, SETTINGS)) == 0
    return folder


def outputs(folder):
    """Path below results/smoke/images → bytes; its scratch and what a dead process leaves under a hidden name apart."""
    root = folder / "results" / "smoke" / "images"
    files = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {
        path.as_posix(): content
        for path, content in files.items()
        if path.parts[0] != "scratch" and not any(part.startswith(".") for part in path.parts)
    }


def saved_steps(folder):
    return [int(path.name) for path in folder.glob("results/smoke/images/scratch/*/[0-9]*")]


def test_the_pretrain_stage_killed_twice_is_the_uninterrupted_one(images, pretrained, tmp_path):
    """Killed from outside at a random moment, then while its checkpoint is written."""
    killed = tmp_path / "killed"
    shutil.copytree(images, killed, symlinks=True)
    chance = random.Random(0)
    process, wanted = start(pretrain, killed, SETTINGS), chance.randrange(4, 12)
    while process.is_alive() and max(saved_steps(killed), default=0) < wanted:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.03))
    process.kill()
    assert ended(process) == -9
    assert all(Path(name).parts[-1] != "18-0.json" and "baseline/18" not in name for name in outputs(killed))
    assert "metrics/pretrain/2-0.json" in outputs(killed)  # the first segment stays
    assert wanted <= max(saved_steps(killed)) < 18

    assert ended(start(pretrain, killed, SETTINGS, "checkpoint")) == -9
    assert not (killed / "results/smoke/images/checkpoints/baseline/18-0").exists()
    assert ended(start(pretrain, killed, SETTINGS)) == 0
    assert outputs(killed) == outputs(pretrained)
    assert "checkpoints/baseline/18-0/training_state.safetensors" in outputs(killed)
    assert saved_steps(killed) == []  # the scratch is gone with its purpose


def test_the_stage_does_not_pick_up_the_scratch_of_other_settings(images, pretrained, tmp_path):
    """A state of other settings lies beside, further on; the training must not start from it."""
    folder = tmp_path / "run"
    shutil.copytree(images, folder, symlinks=True)
    faster = SETTINGS.pretrain.optimizer.model_copy(update={"lr": 0.05})
    other = SETTINGS.model_copy(
        update={"pretrain": SETTINGS.pretrain.model_copy(update={"optimizer": faster})}
    )
    assert ended(start(pretrain, folder, other, "checkpoint")) == -9
    assert max(saved_steps(folder)) == 18
    assert ended(start(pretrain, folder, SETTINGS)) == 0
    name = "metrics/pretrain/18-0.json"
    assert outputs(folder)[name] == outputs(pretrained)[name]


def test_a_finetune_killed_before_and_after_its_first_point_is_the_uninterrupted_one(pretrained, tmp_path):
    """Weights, log, and the network evaluations, which are counted across the interruptions."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        shutil.copytree(pretrained, folder, symlinks=True)
    assert ended(start(finetune, whole, SETTINGS)) == 0
    for saves in (2, 3):  # at step 2, and at step 5
        assert ended(start(finetune, killed, SETTINGS, saves)) == -9
    assert saved_steps(killed) == [5]
    shutil.rmtree(
        next(killed.glob("results/smoke/images/scratch/*/points/step-3"))
    )  # then its state is of no use
    assert ended(start(finetune, killed, SETTINGS, 5)) == -9
    assert saved_steps(killed) == [5]
    assert ended(start(finetune, killed, SETTINGS)) == 0
    assert outputs(killed) == outputs(whole)
    assert "checkpoints/simple_tbc/2-0/step-7/training_state.safetensors" in outputs(killed)
    assert saved_steps(killed) == []


def test_a_checkpoint_that_was_altered_is_not_used(pretrained, tmp_path, monkeypatch):
    """dvc.lock records what `pretrain` made; `finetune` reads nothing else."""
    from reproduction import hashes

    shutil.copytree(pretrained, tmp_path / "run", symlinks=True)
    monkeypatch.chdir(tmp_path / "run")
    baseline = Path("results/smoke/images/checkpoints/baseline")
    lock = (
        f"stages:\n  pretrain@smoke:\n    outs:\n    - path: {baseline}\n      md5: {hashes.md5(baseline)}\n"
    )
    Path("dvc.lock").write_text(lock)
    weights = baseline / "2-0" / "training_state.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoints/baseline: not what pretrain@smoke made") as error:
        run_stage("images.finetune", SETTINGS, "simple_tbc")
    assert "\n" not in str(error.value)


def test_a_training_that_diverges_writes_nothing(images, tmp_path, monkeypatch):
    shutil.copytree(images, tmp_path / "run", symlinks=True)
    monkeypatch.chdir(tmp_path / "run")
    wild = SETTINGS.pretrain.optimizer.model_copy(update={"lr": 1e30, "warmup": 0})
    settings = SETTINGS.model_copy(
        update={"pretrain": SETTINGS.pretrain.model_copy(update={"optimizer": wild})}
    )
    with pytest.raises(FloatingPointError, match=r"not finite at step \d+; lower the learning rate"):
        run_stage("images.pretrain", settings)
    assert not Path("results/smoke/images/checkpoints/baseline/18-0").exists()
