"""What torchgfn says of its losses and what it computes them from, as JSON on standard output.

    python losses_torchgfn.py > tests/mlegfn/objectives/data/torchgfn_losses.json      # inside torchgfn's own environment

Trajectories of a random policy on its 2-D hypergrid of side 4, in float64, with a *learned* (not uniform) P_B and a
state flow of its own, so that every term of every loss is there and none is zero or optimal.
"""

import json
import sys
from importlib.metadata import version

import torch
from gfn.estimators import DiscretePolicyEstimator, ScalarEstimator
from gfn.gflownet import DBGFlowNet, LogPartitionVarianceGFlowNet, SubTBGFlowNet, TBGFlowNet
from gfn.gym import HyperGrid
from gfn.preprocessors import KHotPreprocessor
from gfn.samplers import Sampler
from gfn.utils.modules import MLP

TRAJECTORIES, LAMBDA, LOG_Z = 32, 0.9, 1.5


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    env = HyperGrid(2, 4, "original", {"R0": 0.1, "R1": 0.5, "R2": 2.0}, validate_modes=False)
    preprocessor = KHotPreprocessor(height=env.height, ndim=env.ndim)

    def network(outputs):
        module = MLP(preprocessor.output_dim, outputs, hidden_dim=64, activation_fn="leaky_relu")
        with torch.no_grad():
            module.last_layer.weight.mul_(5)  # far from uniform
        return module

    pf = DiscretePolicyEstimator(network(env.n_actions), env.n_actions, preprocessor)
    pb = DiscretePolicyEstimator(network(env.n_actions - 1), env.n_actions, preprocessor, is_backward=True)
    log_f = ScalarEstimator(network(1), preprocessor)
    trajectories = Sampler(pf).sample_trajectories(env, n=TRAJECTORIES)

    tb = TBGFlowNet(pf, pb, init_logZ=LOG_Z)
    db, sub_tb = DBGFlowNet(pf, pb, log_f), SubTBGFlowNet(pf, pb, log_f, "geometric_within", LAMBDA)
    losses = {
        "trajectory_balance": tb.loss(env, trajectories),
        "detailed_balance": db.loss_from_trajectories(env, trajectories),
        "sub_trajectory_balance": sub_tb.loss(env, trajectories),
        "log_variance": LogPartitionVarianceGFlowNet(pf, pb).loss(env, trajectories),
    }
    log_pf, log_pb = tb.get_pfs_and_pbs(trajectories)
    log_flow = sub_tb.calculate_log_state_flows(env, trajectories, log_pf)
    json.dump(
        {
            "torchgfn": version("torchgfn"),
            "torch": version("torch"),
            "lambda": LAMBDA,
            "log_z": LOG_Z,
            "losses": {name: loss.item() for name, loss in losses.items()},
            "lengths": trajectories.terminating_idx.tolist(),
            "log_reward": trajectories.log_rewards.tolist(),
            # Each trajectory's row up to its end, with *stop*; log F of s_0 … x, without R
            **{
                name: [row[:length].tolist() for row, length in zip(x.T, trajectories.terminating_idx)]
                for name, x in (("log_pf", log_pf), ("log_pb", log_pb), ("log_flow", log_flow))
            },
        },
        sys.stdout,
        indent=1,
    )


if __name__ == "__main__":
    main()
