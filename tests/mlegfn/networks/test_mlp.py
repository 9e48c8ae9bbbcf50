"""The perceptron for points."""

import torch

from mlegfn.networks.mlp import TimeMLP
from mlegfn.randomness import generator


def test_the_network_learns_and_uses_the_time():
    torch.manual_seed(0)
    network, x = TimeMLP(50, 64, 2), torch.randn(256, 2, generator=generator(0, "points"))
    assert network(x, torch.zeros(256, dtype=torch.long)).shape == (256, 2)
    assert TimeMLP(50, 8, 1, outputs=2)(x, torch.full((256,), 49)).shape == (256, 4)
    optimizer = torch.optim.Adam(network.parameters(), 0.005)
    times = torch.arange(256) % 50
    target = torch.sin(6 * x) * (times[:, None] > 25)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (network(x, times) - target).pow(2).mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * target.var()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
