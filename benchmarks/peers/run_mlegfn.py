"""Trajectory balance by mlegfn, asked as its peers are: see tasks.py."""

from importlib.metadata import version
from types import SimpleNamespace

import tasks
import torch

from mlegfn.gflownet.environment import Listed, Members
from mlegfn.gflownet.model import GFlowNet
from mlegfn.gflownet.policies import MLPPolicy
from mlegfn.gflownet.training import train
from mlegfn.targets.hypergrid import Hypergrid
from mlegfn.targets.sets import Sets

torch.set_num_threads(1)


def contender(task, batch):
    size = tasks.TASKS[task]
    grid = "side" in size
    target = (
        Hypergrid(size["dimensions"], size["side"], *tasks.REWARD.values())
        if grid
        else Sets(size["elements"], size["size"])
    )
    listed = Listed(target, MLPPolicy(target, tasks.HIDDEN, tasks.LAYERS).inputs) if grid else None

    def begin(seed):
        torch.manual_seed(seed)
        policy = MLPPolicy(target, tasks.HIDDEN, tasks.LAYERS)
        model = GFlowNet(policy, listed or Members(target))
        settings = {
            "batch": batch,
            "lr": tasks.LR,
            "log_z_lr": tasks.LOG_Z_LR,
            "exploration": 0.0,
            "replay": 0.0,
        }

        def run(iterations):
            train(model, "trajectory_balance", SimpleNamespace(steps=iterations, **settings), seed=seed)

        def state():
            drawn = model.rollout(batch, torch.Generator().manual_seed(seed))
            lengths = drawn.lengths.double() + (0.0 if model.environment.early else 1.0)
            return {"log_z": model.log_z("trajectory_balance"), "mean_length": lengths.mean().item()}

        return run, state

    return begin, {"versions": {"torch": version("torch")}}


if __name__ == "__main__":
    tasks.serve(contender)
