"""One process, two and three ranks of a stage: the same checkpoints, logs and likelihoods, and one that writes."""

import shutil
import socket

import pytest
import torch
from helpers.image_processes import as_rank
from helpers.image_stages import image_settings, prepare, run_stage
from helpers.killed import ended, start
from safetensors.torch import load_file

from mlegfn.artifacts import read_json

IMAGES = "results/smoke/images"
CALLS = [
    ("images.pretrain", None),
    ("images.finetune", "simple_tbc"),
    ("images.finetune", "reweighted"),
    ("images.nll", "simple_tbc"),
]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_ranks(folder, settings, calls, size=1):
    """All ranks of ``as_rank``; every one has to end well."""
    port = free_port()
    ranks = [start(as_rank, rank, size, port, folder, settings, calls) for rank in range(size)]
    assert [ended(rank) for rank in ranks] == [0] * size


def smoke(**changes):
    """The scale smoke with flips and a larger λ, so that every part of the loss counts, and two segments."""
    short = {"pretrain__checkpoints": [4], "pretrain__stop": 6, "pretrain__seeds": [0]}
    short |= {
        "trajectories__checkpoint": 4,
        "data__flip": True,
        "finetune__all__search__checkpoint": 4,
        "finetune__simple_tbc__weight": [0.01, 0.02],
    }
    return image_settings(**{**short, **changes})


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = prepare(tmp_path_factory.mktemp("images"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stage("images.fetch", smoke())
    return folder


@pytest.fixture(scope="module")
def folders(images, tmp_path_factory):
    """{ranks: folder} in which one, two and three processes ran ``CALLS`` on the same settings."""
    made = {}
    for size in (1, 2, 3):
        made[size] = tmp_path_factory.mktemp(f"ranks{size}") / "run"
        shutil.copytree(images, made[size], symlinks=True)
        run_ranks(made[size], smoke(finetune__all__consistency__chunk=7), CALLS, size)
    return made


def metrics(folder, name):
    return read_json(folder / IMAGES / "metrics" / name)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "name",
    [
        "pretrain/4-0.json",
        "pretrain/6-0.json",
        "finetune/simple_tbc/4-0.json",
        "finetune/reweighted/4-0.json",
    ],
)
def test_every_logged_number_is_that_of_one_process(folders, size, name):
    """3 does not divide the batch of 8 nor the chain's rows, so the shares are unequal."""
    one, several = (metrics(folders[n], name) for n in (1, size))
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
    for folder in ("baseline/4-0", "simple_tbc/4-0/step-4"):
        path = f"{IMAGES}/checkpoints/{folder}/training_state.safetensors"
        one, several = (load_file(folders[n] / path) for n in (1, size))
        assert one.keys() == several.keys()
        for name in (n for n in one if n.startswith(("raw", "ema"))):
            torch.testing.assert_close(one[name], several[name], rtol=1e-4, atol=1e-5)
    one, several = (metrics(folders[n], "nll/simple_tbc/4-0.json")["points"][-1] for n in (1, size))
    assert several["per_image"] == pytest.approx(one["per_image"], rel=1e-4)
    assert several["terms"] == pytest.approx(one["terms"], rel=1e-4, abs=1e-6)


def test_several_ranks_keep_the_same_parts_as_one(folders):
    for name in ("pretrain@smoke", "finetune@smoke-simple_tbc", "nll@smoke-simple_tbc"):
        one, several = (read_json(folders[n] / IMAGES / "parts" / f"{name}.json") for n in (1, 3))
        assert one.keys() == several.keys() and len(one) >= 1
        for part in one:
            assert one[part]["settings"] == several[part]["settings"]


def test_the_sampled_likelihood_does_not_depend_on_ranks_either(folders, tmp_path):
    measured = {}
    for size in (1, 2):
        shutil.copytree(folders[1], tmp_path / str(size), symlinks=True)
        settings = smoke(nll__estimator="stratified", finetune__all__consistency__chunk=7)
        run_ranks(tmp_path / str(size), settings, CALLS[-1:], size)
        measured[size] = metrics(tmp_path / str(size), "nll/simple_tbc/4-0.json")
    assert measured[1]["network_evaluations_per_image"] == measured[2]["network_evaluations_per_image"] < 8
    for one, two in zip(measured[1]["points"], measured[2]["points"], strict=True):
        assert two["per_image"] == pytest.approx(one["per_image"], rel=1e-5)
        assert two["estimator_standard_error"] == pytest.approx(one["estimator_standard_error"], rel=1e-4)
