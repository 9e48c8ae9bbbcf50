"""Requests that `mlegfn nll`, `sample` and `finetune` cannot meet: one line says why."""

import math
import shutil

import pytest
import torch
from helpers.commands import last_error, run
from helpers.diffusers_folders import WEIGHTS, stock_folder
from safetensors.torch import load_file, save_file

from reproduction import cli


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder that diffusers wrote. Do not change it."""
    return stock_folder(tmp_path_factory.mktemp("stock"))


def test_analytic_variances_of_broken_weights(stock, tmp_path, capsys):
    folder = shutil.copytree(stock, tmp_path / "broken")
    weights = load_file(folder / WEIGHTS)
    weights["conv_out.bias"][0] = math.nan
    save_file(weights, folder / WEIGHTS)
    assert run("nll", folder, "--images", "digits", "--limit", 1, "--variance", "analytic") == 2
    assert "finite" in (line := last_error(capsys)) and "broken/unet" in line


@pytest.mark.parametrize("arm", ["simple", "simple_tbc", "reweighted"])
def test_a_fine_tune_of_broken_weights(stock, tmp_path, capsys, arm):
    """Wherever it shows first: in the gradient, in log w, in the weight that is measured before the first step."""
    folder = shutil.copytree(stock, tmp_path / "broken")
    weights = load_file(folder / WEIGHTS)
    weights["conv_out.bias"][0] = math.nan
    save_file(weights, folder / WEIGHTS)
    options = [
        "--out",
        tmp_path / "x",
        "--images",
        "digits",
        "--levels",
        17,
        "--scale",
        "smoke",
        "--arm",
        arm,
    ]
    assert run("finetune", folder, *options) == 2
    assert "finite" in (line := last_error(capsys)) and f"{folder}: " in line
    assert not (tmp_path / "x").exists()


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
        (["nll", "STOCK", "--images", "digits", "--levels", "256"], "give levels 17"),
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
        (
            ["finetune", "STOCK", "--out", "TMP/x", "--images", "digits", "--scale", "smoke", "--arm", "vlb"],
            "images.smoke.finetune: no arm 'vlb'; there are simple, simple_tbc, reweighted",
        ),
        (
            ["finetune", "STOCK", "--out", "TMP/x", "--images", "digits", "--arm", "vlb", "--weight", "0.1"],
            "--weight 0.1: the arm vlb has no term over chains",
        ),
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
        ["finetune", "x", "--out", "y", "--images", "digits", "--weight", "0"],
        ["finetune", "x", "--out", "y", "--images", "digits", "--arm", "tbc"],
        ["sample", "x"],
    ],
)
def test_values_out_of_range(capsys, arguments):
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

    monkeypatch.setattr("reproduction.commands.nll.measure", fail)
    assert run("nll", stock, "--images", "digits") == 2
    assert "out of memory; lower --batch" in last_error(capsys)


def test_what_is_no_users_mistake_keeps_its_traceback(stock, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("reproduction.commands.nll.measure", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("nll", stock, "--images", "digits")
