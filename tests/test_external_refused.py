"""Diffusers folders, requests and hubs that `mlegfn nll`, `sample` and `finetune` cannot use: one line says why."""

import contextlib
import math
import shutil
import socket
from pathlib import Path

import pytest
import torch
from external_folders import (
    SCHEDULER,
    UNET,
    WEIGHTS,
    entries,
    last_error,
    run,
    stock_folder,
    written,
)
from safetensors.torch import load_file, save_file

from mlegfn import cli
from mlegfn.external import External, hub, read


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder that diffusers wrote. Do not change it."""
    return stock_folder(tmp_path_factory.mktemp("stock"))


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


def not_a_number(folder):
    weights = load_file(folder / WEIGHTS)
    weights["conv_out.bias"][0] = math.nan
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
        (not_a_number, "not finite"),
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
def test_a_broken_folder_is_one_line(stock, tmp_path, capsys, change, said):
    folder = shutil.copytree(stock, tmp_path / "broken")
    change(folder)
    code = run("nll", folder, "--images", "digits", "--limit", 1)
    if said is None:  # an empty record says nothing, as if it were not there
        assert code == 0
    else:
        assert code == 2
        line = last_error(capsys)
        assert said in line and "broken" in line


def test_analytic_variances_of_broken_weights(stock, tmp_path, capsys):
    folder = shutil.copytree(stock, tmp_path / "broken")
    not_a_number(folder)
    assert run("nll", folder, "--images", "digits", "--limit", 1, "--variance", "analytic") == 2
    assert "finite" in (line := last_error(capsys)) and "broken/unet" in line


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["nll", "nowhere"], "nowhere: not found"),
        (["nll", "params.yaml"], "is a file"),
        (["nll", "src/nowhere"], "src/nowhere: not found"),  # a folder that is here, so no owner of the hub
        (["nll", "STOCK"], "takes images of 1×8×8, cifar10 holds 3×32×32"),
        (["nll", "STOCK", "--images", "nowhere.zip"], "nowhere.zip: not found"),
        (["nll", "STOCK", "--images", "scale:nowhere"], "nowhere"),
        (["nll", "STOCK", "--images", "digits", "--limit", "361"], "has 360 test images"),
        (["nll", "STOCK", "--images", "digits", "--levels", "256"], "--levels 17"),
        (["nll", "STOCK", "--images", "digits", "--json", "TMP"], "is a folder"),
        (["nll", "STOCK", "--images", "digits", "--json", "params.yaml/x"], "is a file"),
        (
            ["nll", "STOCK", "--images", "digits", "--estimator", "stratified", "--evaluations", "9"],
            "has 6 steps",
        ),
        (["sample", "STOCK", "--out", "TMP"], "is a folder"),
        (["sample", "STOCK", "--out", "TMP/x.png", "--variance", "analytic"], "never estimated"),
        (["finetune", "STOCK", "--out", "STOCK", "--images", "digits"], "exists"),
        (["finetune", "STOCK", "--out", "TMP/x", "--images", "digits", "--scale", "none"], "no scale 'none'"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line(stock, tmp_path, capsys, arguments, said):
    named = [a.replace("STOCK", str(stock)).replace("TMP", str(tmp_path)) for a in arguments]
    assert cli.main(named) == 2
    assert said in last_error(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["nll", "x", "--limit", "0"],
        ["nll", "x", "--batch", "many"],
        ["nll", "x", "--seed", "-1"],
        ["nll", "x", "--levels", "1"],
        ["sample", "x", "--out", "x.png", "--levels", "257"],
        ["finetune", "x", "--out", "y", "--images", "digits", "--lr", "nan"],
        ["sample", "x"],
    ],
)
def test_numbers_out_of_range(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert arguments[0] in capsys.readouterr().err


def test_no_gpu_is_one_line(stock, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run("nll", stock, "--images", "digits", "--device", "cuda") == 2
    assert "finds no GPU" in last_error(capsys)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_says_what_to_lower(stock, monkeypatch, capsys, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mlegfn.commands.nll.measure", fail)
    assert run("nll", stock, "--images", "digits") == 2
    assert "out of memory; lower --batch" in last_error(capsys)


def test_what_is_no_users_mistake_keeps_its_traceback(stock, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("mlegfn.commands.nll.measure", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("nll", stock, "--images", "digits")


def test_weights_in_several_files(stock, tmp_path, capsys):
    folder = shutil.copytree(stock, tmp_path / "sharded")
    shutil.rmtree(folder / "unet")
    whole = read(stock).network
    whole.save_pretrained(folder / "unet", max_shard_size="10KB")
    shards = sorted((folder / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    for p, q in zip(whole.parameters(), read(folder).network.parameters(), strict=True):
        assert torch.equal(p, q)
    shards[1].unlink()
    assert run("nll", folder, "--images", "digits") == 2
    assert shards[1].name in last_error(capsys)


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


def test_a_hub_that_cannot_be_reached(empty_hub, capsys, monkeypatch):
    assert run("nll", "some/ddpm") == 2
    assert "the hub did not give it" in last_error(capsys)
    monkeypatch.setattr(empty_hub, "HF_HUB_OFFLINE", True)
    assert run("nll", "some/ddpm") == 2
    assert "HF_HUB_OFFLINE is set" in last_error(capsys)


def test_a_hub_that_never_answers_is_not_asked_twice(empty_hub, capsys, monkeypatch):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(8)
        mute.settimeout(0)
        monkeypatch.setattr(empty_hub, "ENDPOINT", f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setattr(hub, "SECONDS", 0.3)
        assert run("nll", "some/ddpm") == 2
        asked = []
        with contextlib.suppress(BlockingIOError):
            while True:  # the library asks other things too, once a day
                with mute.accept()[0] as connection:
                    connection.settimeout(1)
                    asked.append(connection.recv(4096).split()[1])
        assert asked.count(b"/api/models/some/ddpm") == 1
    assert "timed out" in last_error(capsys)
