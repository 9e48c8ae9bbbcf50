"""A target of one's own, and every objective on it: what to put into a knapsack.    python examples/new_target.py"""

from types import SimpleNamespace

import torch
from torch.nn import functional as F

from mlegfn.gflownet.environment import Listed
from mlegfn.gflownet.evaluation import distance, log_terminating
from mlegfn.gflownet.losses import OBJECTIVES
from mlegfn.gflownet.model import GFlowNet
from mlegfn.gflownet.policies import MLPPolicy
from mlegfn.gflownet.training import train


class Knapsack:
    """Sets of n items that weigh at most 100 together, R(x) = e^{their value}; *stop* whenever you like (action n)."""

    def __init__(self, weights, values):
        self.weights, self.values = weights, values
        self.items = self.depth = len(weights)
        self.shape, self.actions = (self.items,), self.items + 1

    def initial(self, count):
        return torch.zeros(count, self.items, dtype=torch.int64)

    def level(self, states):
        return states.sum(1)

    def allowed(self, states):
        room = 100 - states @ self.weights
        return F.pad((states == 0) & (self.weights <= room[:, None]), (0, 1), value=True)

    def step(self, states, action):
        return states + F.one_hot(action, self.items)

    def undoable(self, states):
        return states > 0

    def undo(self, states, action):
        return states - F.one_hot(action, self.items)

    def log_reward(self, x):
        return x.double() @ self.values

    def features(self, states):
        return states.double()

    def states(self):
        every = torch.arange(2**self.items)[:, None] >> torch.arange(self.items) & 1
        return every[every @ self.weights <= 100]

    def index(self, states):  # the rows of ``states()`` are binary numbers that rise
        rows = ((each << torch.arange(self.items)).sum(1) for each in (self.states(), states))
        return torch.searchsorted(*rows)


def main(steps=1000):
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    weights = torch.randint(1, 50, (8,), generator=draw)
    target = Knapsack(weights, 3 * torch.rand(8, generator=draw, dtype=torch.float64))
    settings = SimpleNamespace(steps=steps, batch=64, lr=0.005, log_z_lr=0.1, exploration=0, replay=0)
    for name, objective in OBJECTIVES.items():
        torch.manual_seed(0)
        policy = MLPPolicy(target)
        model = train(GFlowNet(policy, Listed(target, policy.inputs)), name, settings)
        graph = model.environment.graph
        print(f"{objective.title:16s} L1 {distance(log_terminating(model), graph.log_prob):.4f}")
    print(f"a perfect model, by 10,000 samples: L1 {graph.sampling_floor(10_000):.4f}")


if __name__ == "__main__":
    main()
