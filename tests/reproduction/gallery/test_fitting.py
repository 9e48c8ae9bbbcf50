"""How stations train, and how one reads the weights of another."""

from types import SimpleNamespace

import pytest
import torch

from reproduction.gallery import fitting


def test_training_is_a_function_of_its_seed_and_gives_the_averaged_weights():
    def run(decay):
        network = fitting.initialised(lambda: torch.nn.Linear(2, 1), 0, "test")
        x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
        optimizer = SimpleNamespace(lr=0.05, warmup=0, clip=10.0, ema_decay=decay)
        log = []
        averaged = fitting.fit(
            network, lambda _: (network(x)[:, 0] - x.sum(1)).square().mean(), 30, optimizer, "t", log
        )
        return network, averaged, log

    first, averaged, log = run(0.9)
    again, _, _ = run(0.9)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert [entry["step"] for entry in log] == list(range(1, 31)) and log[-1]["loss"] < log[0]["loss"]
    assert not any(p.requires_grad for p in averaged.parameters())
    assert not torch.equal(averaged.weight, first.weight), "the last weights instead of their average"


def test_weights_come_back_and_those_of_another_network_are_refused():
    network = torch.nn.Linear(2, 3)
    tensors = fitting.weights(network, "model")
    same = fitting.with_weights(torch.nn.Linear(2, 3), tensors, "model")
    assert torch.equal(same.weight, network.weight)
    with pytest.raises(ValueError, match="model: the weights of another network"):
        fitting.with_weights(torch.nn.Linear(2, 4), tensors, "model")
