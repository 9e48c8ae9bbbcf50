"""A training that was killed and resumed is the uninterrupted one, bit for bit; and what happens otherwise."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from helpers.exact import TinyNetwork
from helpers.killed import ended, start, tiny_training
from helpers.settings import image_settings, optimizer
from safetensors.torch import load_file, save_file

from mlegfn.errors import UserError
from mlegfn.randomness import generator
from mlegfn.training.checkpoint import read_model, read_safetensors, read_state, write_checkpoint
from mlegfn.training.loop import learning_rate, train
from mlegfn.training.scratch import Scratch
from mlegfn.training.state import new_state

STEPS = 20


def result(folder):
    """(final tensors, logs) of a tiny training."""
    return load_file(folder / "final.safetensors"), json.loads((folder / "logs.json").read_text())


def differences(one, other):
    """Names of the tensors that are not bit-equal."""
    assert one.keys() == other.keys()
    return {
        name
        for name in one
        if one[name].dtype != other[name].dtype or not torch.equal(one[name], other[name])
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert ended(start(tiny_training, folder, STEPS)) == 0
    return result(folder)


def twice_killed(folder, draw, wrong=None):
    """Kill a tiny training at two random steps, resume it each time, and let it end."""
    chance = random.Random(draw)
    first, second = sorted(chance.sample(range(5, STEPS), 2))  # after the first saved state
    for step in (first, second):
        kill = (step, chance.choice(["gradient", "saving"]))
        assert ended(start(tiny_training, folder, STEPS, kill, wrong)) == -9
        assert not (folder / "final.safetensors").exists()
    assert ended(start(tiny_training, folder, STEPS, None, wrong)) == 0
    return result(folder)


@pytest.mark.parametrize("draw", range(4))
def test_a_training_killed_twice_is_the_uninterrupted_one(uninterrupted, tmp_path, draw):
    tensors, logs = twice_killed(tmp_path, draw)
    names = tensors.keys()
    assert {"step", "ema.step", "raw.first.weight", "ema.second.bias"} <= names
    assert {"adam.step.first.weight", "adam.exp_avg.first.weight", "adam.exp_avg_sq.second.bias"} <= names
    assert differences(tensors, uninterrupted[0]) == set()
    assert logs == uninterrupted[1] and len(logs) == STEPS


@pytest.mark.parametrize("wrong", ["moments", "adam step", "ema", "ema step", "noise", "dropout"])
def test_a_wrong_resume_is_seen(uninterrupted, tmp_path, wrong):
    """The negative control: forget one thing on resuming, and the test above fails."""
    tensors, logs = twice_killed(tmp_path, 0, wrong)
    changed = differences(tensors, uninterrupted[0])
    if wrong.startswith("ema"):
        assert changed and all(name.startswith("ema") for name in changed)
    else:
        assert {"raw.first.weight", "adam.exp_avg.first.weight", "ema.first.weight"} <= changed
        assert logs != uninterrupted[1]


# ---------------------------------------------------------------- the scratch and the state

OPTIMIZER = optimizer(lr=0.01, warmup=0, ema_decay=0.8)


def tiny_state(steps=0, hidden=8):
    network = TinyNetwork(hidden=hidden, dtype=torch.float32)
    state = new_state(network, OPTIMIZER)

    def accumulate(step):
        x = torch.randn(4, 1, 2, 2, generator=generator(0, step))
        loss = (network(x, torch.arange(4)) - x).pow(2).mean()
        loss.backward()
        return {"loss": loss.item()}

    return train(state, accumulate, OPTIMIZER, steps)


def copy(state):
    return {name: value.clone() for name, value in state.tensors().items()}


def saved(folder, steps):
    """A scratch that holds the states after each of ``steps``."""
    for step in steps:
        target = folder / str(step)
        target.mkdir(parents=True)
        save_file(tiny_state(step).tensors(), target / "state.safetensors")
        record = {"logs": [{"step": s + 1} for s in range(step)], "counts": None}
        (target / "record.json").write_text(json.dumps(record))
    return Scratch(folder, every_minutes=1, logs=[])


def without(name):
    def spoil(path):
        flat = load_file(path / "state.safetensors")
        save_file({k: v for k, v in flat.items() if not k.startswith(name)}, path / "state.safetensors")

    return spoil


def truncate(name):
    def spoil(path):
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: len(content) // 2])

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        truncate("state.safetensors"),
        truncate("record.json"),
        without("adam.exp_avg."),
        without("adam.step.first.bias"),
        without("adam."),
        without("ema.second"),
        without("step"),
        without("raw.first"),
        lambda path: (path / "record.json").unlink(),
        lambda path: (path / "state.safetensors").unlink(),
    ],
)
def test_a_damaged_saved_state_gives_way_to_the_one_before(tmp_path, spoil, capsys):
    scratch = saved(tmp_path, [3, 5])
    spoil(tmp_path / "5")
    state = tiny_state()
    scratch.resume(state)
    assert differences(copy(state), copy(tiny_state(3))) == set()
    assert len(scratch.logs) == 3
    assert "damaged" in capsys.readouterr().out


def test_damaged_states_alone_leave_the_fresh_one_untouched(tmp_path):
    scratch = saved(tmp_path, [3])
    without("adam.")(tmp_path / "3")
    state = tiny_state()
    scratch.resume(state)
    assert differences(copy(state), copy(tiny_state())) == set() and scratch.logs == [] and state.step == 0


def test_a_state_of_another_network_is_refused_whole(tmp_path):
    state = tiny_state(2)
    before = copy(state)
    with pytest.raises(ValueError, match="another architecture"):
        state.load(tiny_state(3, hidden=9).tensors())
    assert differences(copy(state), before) == set()


def test_a_saved_state_replaces_the_one_before(tmp_path):
    scratch = Scratch(tmp_path, every_minutes=0, logs=[{"loss": 1.0}])
    for step in (1, 2):
        assert scratch.due()
        scratch.save(tiny_state(step))
    assert [p.name for p in tmp_path.iterdir()] == ["2"]
    assert not Scratch(tmp_path, every_minutes=60, logs=[]).due()
    scratch.remove()
    assert not tmp_path.exists()


def test_a_state_round_trips_through_its_tensors():
    state, other = tiny_state(4), tiny_state()
    other.load(copy(state))
    assert differences(copy(other), copy(state)) == set()
    assert other.step == 4 and other.ema.optimization_step == 4


# ---------------------------------------------------------------- the loop


def test_learning_rate_rises_from_zero_and_stays():
    settings = optimizer(lr=0.5, warmup=4)
    assert [learning_rate(settings, step) for step in range(7)] == [0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert learning_rate(OPTIMIZER, 0) == OPTIMIZER.lr


def test_the_loop_is_adam_on_the_clipped_gradient():
    """Against torch.optim.Adam on a gradient scaled to norm 1e-3, which every step's is above."""
    settings = OPTIMIZER.model_copy(update={"clip": 1e-3})
    ours, theirs = (TinyNetwork(seed=1, dtype=torch.float32) for _ in range(2))
    optimizer = torch.optim.Adam(theirs.parameters(), lr=settings.lr)
    norms = []

    def gradient(network, step):
        x = torch.randn(4, 1, 2, 2, generator=generator(0, step))
        loss = (network(x, torch.arange(4)) - x).pow(2).mean()
        loss.backward()
        return {"loss": loss.item()}

    train(
        new_state(ours, settings),
        lambda step: gradient(ours, step),
        settings,
        5,
        after_step=lambda _, logs: norms.append(logs["grad_norm"]),
    )
    for step in range(5):
        optimizer.zero_grad()
        gradient(theirs, step)
        norm = torch.cat([p.grad.flatten() for p in theirs.parameters()]).norm()
        assert norms[step] == pytest.approx(norm.item(), rel=1e-4) and norm > 1e-3
        for p in theirs.parameters():
            p.grad.mul_(1e-3 / norm)
        optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    state = tiny_state(2)
    before = copy(state)

    def accumulate(step):
        sum(p.sum() for p in state.network.parameters()).mul(float("nan")).backward()
        return {"loss": 0.0}

    with pytest.raises(FloatingPointError, match="step 2"):
        train(state, accumulate, OPTIMIZER, 5)
    assert differences(copy(state), before) == set()


# ---------------------------------------------------------------- checkpoints that are not there or not whole

RECORD = {"shape": [1, 8, 8], "label": "digits", "levels": 17}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(settings, the folder of a checkpoint)."""
    settings, folder = image_settings(), tmp_path_factory.mktemp("prepared") / "checkpoint"
    write_checkpoint(folder, network_state(settings), settings, RECORD, [0.5] * 8)
    return settings, folder


@pytest.mark.parametrize(
    "name", ["mlegfn.json", "training_state.safetensors", "unet/diffusion_pytorch_model.safetensors"]
)
@pytest.mark.parametrize("harm", ["missing", "truncated"])
def test_a_broken_checkpoint_is_one_line_that_names_the_file(prepared, tmp_path, name, harm):
    scale, first = prepared
    folder = tmp_path / "checkpoint"
    shutil.copytree(first, folder)
    if harm == "missing":
        (folder / name).unlink()
    else:
        truncate(Path(name).name)((folder / name).parent)
    with pytest.raises(UserError, match=Path(name).name) as error:
        read_model(folder, scale)
        read_state(folder, network_state(scale))
    assert "\n" not in str(error.value)


def network_state(scale):
    from mlegfn.training.checkpoint import initial_network

    return new_state(initial_network(scale, RECORD, 0), OPTIMIZER)


def test_a_checkpoint_of_other_settings_is_one_line(prepared):
    scale, first = prepared
    folder = first
    wider = scale.model_copy(
        update={"network": scale.network.model_copy(update={"block_out_channels": [8, 16]})}
    )
    for read in (read_model, lambda folder, scale: read_state(folder, network_state(scale))):
        with pytest.raises(UserError, match="another `network` block") as error:
            read(folder, wider)
        assert "\n" not in str(error.value)
    longer = scale.model_copy(update={"diffusion": scale.diffusion.model_copy(update={"beta_end": 0.95})})
    with pytest.raises(UserError, match="another `diffusion` block"):
        read_model(folder, longer)


def test_a_checkpoint_is_written_whole_or_not_at_all(prepared, tmp_path, monkeypatch):
    scale, first = prepared
    state = network_state(scale)
    read_state(first, state)
    monkeypatch.setattr("mlegfn.training.checkpoint.write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_checkpoint(tmp_path / "c", state, scale, RECORD, None)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="not found"):
        read_safetensors(tmp_path / "c" / "training_state.safetensors")
