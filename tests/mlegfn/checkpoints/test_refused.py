"""Diffusers folders and hubs that cannot be read: one line says why."""

import contextlib
import shutil
import socket
from pathlib import Path

import pytest
import torch
from helpers.diffusers_folders import SCHEDULER, UNET, WEIGHTS, entries, stock_folder, written
from helpers.repository import REPOSITORY
from safetensors.torch import load_file, save_file

from mlegfn.checkpoints import External, hub, read
from mlegfn.errors import UserError


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder that diffusers wrote. Do not change it."""
    return stock_folder(tmp_path_factory.mktemp("stock"))


def opened(path):
    """The model in a folder, once it was found to be one of the digits."""
    external = read(path)
    external.check_images((1, 8, 8), 17, "digits")
    return external.model(17)


def refusal(function, path):
    """The one line of the UserError."""
    with pytest.raises(UserError) as error:
        function(path)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- what can be wrong


def without(name):
    return lambda folder: (folder / name).unlink()


def truncated(folder):
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])


def pickled(folder):
    (folder / WEIGHTS).rename(folder / "unet/diffusion_pytorch_model.bin")


def lacking(folder):
    weights = load_file(folder / WEIGHTS)
    del weights["conv_in.bias"]
    save_file(weights, folder / WEIGHTS)


@pytest.mark.parametrize(
    "change, said",
    [
        (without(UNET), "unet/config.json is missing"),
        (without(SCHEDULER), "scheduler_config.json is missing"),
        (without(WEIGHTS), "safetensors: not found"),
        (written(UNET, "{"), "unet/config.json: no readable JSON"),
        (written(UNET, "[]"), "no JSON mapping"),
        (written(SCHEDULER, "\x00"), "scheduler_config.json: no readable JSON"),
        (truncated, "safetensors: damaged"),
        (written(WEIGHTS, "not weights"), "safetensors: damaged"),
        (pickled, "only as .bin"),
        (entries(UNET, block_out_channels=[16, 16]), "cannot build its U-Net"),
        (entries(UNET, layers_per_block=2), "cannot build its U-Net"),
        (lacking, "do not belong together (1 differ, conv_in.bias first)"),
        (entries(UNET, down_block_types=["Nonsense", "DownBlock2D"]), "cannot build its U-Net"),
        (entries(UNET, _class_name="UNet2DConditionModel"), "is of a UNet2DConditionModel"),
        (entries(UNET, num_class_embeds=10), "wants a class"),
        (entries(UNET, sample_size=16), "takes images of 1×16×16, digits holds 1×8×8"),
        (entries(SCHEDULER, _class_name="ScoreSdeVeScheduler"), "no β schedule"),
        (entries(SCHEDULER, _class_name="Nonsense"), "no β schedule"),
        (entries(SCHEDULER, beta_schedule="sigmoid"), "'sigmoid' is not read"),
        (entries(SCHEDULER, beta_end=1.5), "between 0 and 1"),
        (entries(SCHEDULER, beta_end="high"), "not numbers"),
        (entries(SCHEDULER, num_train_timesteps=0), "num_train_timesteps"),
        (entries(SCHEDULER, trained_betas=[0.1]), "1 entries for 6 steps"),
        (entries(SCHEDULER, trained_betas=5), "scheduler_config.json: "),
        (entries(SCHEDULER, rescale_betas_zero_snr=True), "rescale_betas_zero_snr"),
        (entries(SCHEDULER, prediction_type="flow"), "'flow' is not read"),
        (entries(SCHEDULER, variance_type="learned"), "'learned' is not read"),
        (entries(SCHEDULER, variance_type="learned_range"), "1 outputs, not 2"),
        (written("mlegfn.json", "{}"), None),
        (written("mlegfn.json", '{"step": 1}'), "mlegfn.json: altered"),
        (
            written(
                "mlegfn.json",
                '{"dataset": {"levels": 17}, "diffusion": {"variance": "analytic", "decoder": "exact"}, '
                '"epsilon_errors": [1.0, 2.0]}',
            ),
            "mlegfn.json: epsilon_errors",
        ),
        (
            written(
                "mlegfn.json",
                '{"dataset": {"levels": 256}, "diffusion": {"variance": "large", "decoder": "exact"}, '
                '"epsilon_errors": null}',
            ),
            "trained on 256 grey levels, but digits has 17",
        ),
    ],
)
def test_a_broken_folder_is_one_line(stock, tmp_path, change, said):
    folder = shutil.copytree(stock, tmp_path / "broken")
    change(folder)
    if said is None:  # an empty record says nothing, as if it were not there
        assert opened(folder)
    else:
        line = refusal(opened, folder)
        assert said in line and "broken" in line


def test_weights_in_several_files(stock, tmp_path):
    folder = shutil.copytree(stock, tmp_path / "sharded")
    shutil.rmtree(folder / "unet")
    whole = read(stock).network
    whole.save_pretrained(folder / "unet", max_shard_size="10KB")
    shards = sorted((folder / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    for p, q in zip(whole.parameters(), read(folder).network.parameters(), strict=True):
        assert torch.equal(p, q)
    shards[1].unlink()
    assert shards[1].name in refusal(read, folder)


# ---------------------------------------------------------------- the hub


@pytest.fixture
def empty_hub(monkeypatch, tmp_path):
    """No cache, no network: every question to the hub is refused at once."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return constants


def test_a_cached_repository_is_read_without_a_network(empty_hub, stock, tmp_path):
    """In the layout of the early repositories, such as google/ddpm-cifar10-32: one folder for all files, and
    attention's weights under the names of that time."""
    repository = tmp_path / "hub" / "models--some--ddpm"
    flat = repository / "snapshots" / ("0" * 40)
    flat.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for file in (stock / "model_index.json", *(stock / "unet").iterdir(), *(stock / "scheduler").iterdir()):
        shutil.copy(file, flat)
    weights = flat / Path(WEIGHTS).name
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in load_file(weights).items():
        for new, early in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{early}.")
        renamed[name] = value
    assert any("proj_attn" in name for name in renamed)
    save_file(renamed, weights)
    found = read("some/ddpm")
    assert isinstance(found, External) and found.variance == "large"
    for p, q in zip(found.network.parameters(), read(stock).network.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_hub_that_cannot_be_reached(empty_hub, monkeypatch):
    assert "the hub did not give it" in refusal(read, "some/ddpm")
    monkeypatch.setattr(empty_hub, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(read, "some/ddpm")


def test_a_hub_that_never_answers_is_not_asked_twice(empty_hub, monkeypatch):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(8)
        mute.settimeout(0)
        monkeypatch.setattr(empty_hub, "ENDPOINT", f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setattr(hub, "SECONDS", 0.3)
        line = refusal(read, "some/ddpm")
        asked = []
        with contextlib.suppress(BlockingIOError):
            while True:  # the library asks other things too, once a day
                with mute.accept()[0] as connection:
                    connection.settimeout(1)
                    asked.append(connection.recv(4096).split()[1])
        assert asked.count(b"/api/models/some/ddpm") == 1
    assert "timed out" in line


@pytest.mark.parametrize(
    "path, said",
    [
        ("nowhere", "nowhere: not found"),
        ("pyproject.toml", "is a file"),
        ("src/nowhere", "src/nowhere: not found"),  # a folder that is here, so no owner of the hub
        ("~nobody-of-that-name/x", "no such user"),
    ],
)
def test_paths_that_are_none(path, said, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert said in refusal(read, path)


def test_images_of_another_kind_are_refused(stock):
    external = read(stock, levels=256)
    with pytest.raises(UserError, match="takes images of 1×8×8, cifar10 holds 3×32×32"):
        external.check_images((3, 32, 32), 256, "cifar10")
    with pytest.raises(UserError, match=r"trained on 256 grey levels, but digits has 17; .*levels 17"):
        external.check_images((1, 8, 8), 17, "digits")
