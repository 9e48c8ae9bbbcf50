"""One process, two ranks and three: the same global batch, the same losses, the same likelihoods."""

import os
import shutil
import socket

import pytest
import torch
from killed import ended, start
from safetensors.torch import load_file

from mlegfn import paths
from mlegfn.artifacts import read_json
from mlegfn.config import load
from mlegfn.data import load as load_data
from mlegfn.data import save_images
from mlegfn.training import distributed


def as_rank(rank, size, port, folder, scale, calls):
    """Run stages ``calls`` [(name, keyword arguments)] in ``folder`` as one rank of ``size``, as under torchrun."""
    import importlib

    os.chdir(folder)
    torch.set_num_threads(1)
    if size > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    for name, key in calls:
        importlib.import_module(f"mlegfn.stages.{name}").run("smoke", scale, **key)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_stages(folder, scale, calls, size=1):
    """All ranks of ``as_rank``; every one has to end well."""
    port = free_port()
    ranks = [start(as_rank, rank, size, port, folder, scale, calls) for rank in range(size)]
    assert [ended(rank) for rank in ranks] == [0] * size


CALLS = [
    ("pretrain", {"step": 4}),
    ("finetune", {"step": 4, "arm": "tbc", "seed": 0}),
    ("finetune", {"step": 4, "arm": "vlb", "seed": 0}),
    ("nll", {"step": 4, "arm": "tbc", "seed": 0}),
]


def smoke(flip=True, dropout=0.0, estimator="full", **consistency):
    """The scale smoke with flips and a larger λ, so that every part of the loss counts."""
    scale = load("params.yaml").scale("smoke")
    tbc = scale.finetune.consistency.model_copy(update={"weight": 0.01, **consistency})
    return scale.model_copy(
        update={
            "data": scale.data.model_copy(update={"flip": flip}),
            "network": scale.network.model_copy(update={"dropout": dropout}),
            "finetune": scale.finetune.model_copy(update={"consistency": tbc}),
            "nll": scale.nll.model_copy(update={"estimator": estimator}),
        }
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    save_images(load_data(smoke().data), folder / "data" / "smoke")
    return folder


@pytest.fixture(scope="module")
def folders(images, tmp_path_factory):
    """{ranks: folder} in which one, two and three processes ran ``CALLS`` on the same settings."""
    found = {}
    for size in (1, 2, 3):
        found[size] = tmp_path_factory.mktemp(f"ranks{size}") / "run"
        shutil.copytree(images, found[size])
        run_stages(found[size], smoke(chunk=7), CALLS, size)
    return found


def metrics(folder, kind, name):
    return read_json(folder / "results" / "smoke" / "metrics" / kind / f"{name}.json")


LOGS = [("pretrain", "4"), ("finetune", "4-tbc-0"), ("finetune", "4-vlb-0")]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind,name", LOGS)
def test_every_logged_number_is_that_of_one_process(folders, size, kind, name):
    """3 does not divide the batch of 8 nor the chain's rows, so the shares are unequal."""
    one, several = (metrics(folders[n], kind, name) for n in (1, size))
    assert one["network_evaluations"] == several["network_evaluations"]
    assert len(one["log"]) == len(several["log"]) > 0
    for a, b in zip(one["log"], several["log"], strict=True):
        assert a.keys() == b.keys()
        assert {k: v for k, v in b.items() if v is not None} == pytest.approx(
            {k: v for k, v in a.items() if v is not None}, rel=1e-5
        )
    assert len({entry["loss"] for entry in one["log"]}) == len(one["log"])


@pytest.mark.parametrize("size", [2, 3])
def test_the_weights_and_likelihoods_are_those_of_one_process(folders, size):
    for folder in (paths.pretrained("smoke", 4), paths.finetuned("smoke", 4, "tbc", 0) / "step-4"):
        one, several = (load_file(folders[n] / folder / "training_state.safetensors") for n in (1, size))
        assert one.keys() == several.keys()
        for name in (n for n in one if n.startswith(("raw", "ema"))):
            torch.testing.assert_close(one[name], several[name], rtol=1e-4, atol=1e-6)
    one, several = (metrics(folders[n], "nll", "4-tbc-0")["points"][-1] for n in (1, size))
    assert several["per_image"] == pytest.approx(one["per_image"], rel=1e-4)
    assert several["terms"] == pytest.approx(one["terms"], rel=1e-4, abs=1e-6)


def test_the_sampled_likelihood_does_not_depend_on_ranks_either(folders, tmp_path):
    found = {}
    for size in (1, 2):
        shutil.copytree(folders[1], tmp_path / str(size))
        run_stages(tmp_path / str(size), smoke(estimator="stratified"), [CALLS[-1]], size)
        found[size] = metrics(tmp_path / str(size), "nll", "4-tbc-0")
    assert found[1]["network_evaluations_per_image"] == found[2]["network_evaluations_per_image"] < 8
    for one, two in zip(found[1]["points"], found[2]["points"], strict=True):
        assert two["per_image"] == pytest.approx(one["per_image"], rel=1e-5)
        assert two["estimator_standard_error"] == pytest.approx(one["estimator_standard_error"], rel=1e-4)


def test_only_dropout_knows_the_number_of_ranks(images, tmp_path):
    """With dropout the losses of two ranks differ from one's, but not between two runs of two ranks."""
    losses = {}
    for name, size in (("one", 1), ("two", 2), ("again", 2)):
        shutil.copytree(images, tmp_path / name)
        run_stages(tmp_path / name, smoke(dropout=0.5), CALLS[:1], size)
        losses[name] = [entry["loss"] for entry in metrics(tmp_path / name, "pretrain", "4")["log"]]
    assert losses["two"] == losses["again"] != losses["one"]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 128])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_shares_are_all_rows_in_order(monkeypatch, count, size):
    monkeypatch.setenv("WORLD_SIZE", str(size))
    rows = []
    for rank in range(size):
        monkeypatch.setenv("RANK", str(rank))
        rows += range(count)[distributed.share(count)]
    assert rows == list(range(count))
