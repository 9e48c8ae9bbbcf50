"""One process, two ranks and three: the same global batch, the same losses, the same weights."""

import json
import socket

import pytest
import torch
from helpers.killed import ended, start
from helpers.ranks import TRAININGS, as_rank
from safetensors.torch import load_file

from mlegfn.training import distributed


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def trained(folder, size=1, dropout=0.0):
    """``folder``, once all ranks of ``as_rank`` have ended well."""
    port = free_port()
    ranks = [start(as_rank, rank, size, port, folder, dropout) for rank in range(size)]
    assert [ended(rank) for rank in ranks] == [0] * size
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{ranks: folder} of the same trainings in one, two and three processes."""
    return {size: trained(tmp_path_factory.mktemp(f"ranks{size}"), size) for size in (1, 2, 3)}


def logged(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", TRAININGS)
def test_every_logged_number_is_that_of_one_process(folders, size, name):
    """3 does not divide the batch of 8 nor the chain's rows, so the shares are unequal."""
    (one, counted), (several, counted_too) = (logged(folders[n], name) for n in (1, size))
    assert counted == counted_too
    assert len(one) == len(several) == 4
    for a, b in zip(one, several, strict=True):
        assert a.keys() == b.keys()
        assert {k: v for k, v in b.items() if v is not None} == pytest.approx(
            {k: v for k, v in a.items() if v is not None}, rel=1e-5
        )
    assert len({entry["loss"] for entry in one}) == len(one)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", TRAININGS)
def test_the_weights_are_those_of_one_process(folders, size, name):
    one, several = (load_file(folders[n] / f"{name}.safetensors") for n in (1, size))
    assert one.keys() == several.keys()
    for key in (n for n in one if n.startswith(("raw", "ema"))):
        torch.testing.assert_close(one[key], several[key], rtol=1e-4, atol=1e-6)


def test_only_dropout_knows_the_number_of_ranks(tmp_path):
    """With dropout the losses of two ranks differ from one's, but not between two runs of two ranks."""
    losses = {}
    for name, size in (("one", 1), ("two", 2), ("again", 2)):
        (tmp_path / name).mkdir()
        log, _ = logged(trained(tmp_path / name, size, dropout=0.5), "pretrain")
        losses[name] = [entry["loss"] for entry in log]
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
