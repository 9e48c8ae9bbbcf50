"""One training loop for every objective: roll out, score, step; everything random is a function of (seed, step)."""

import math
from types import SimpleNamespace

import torch
from tqdm import tqdm

from mlegfn.gflownet.losses import OBJECTIVES, loss, score
from mlegfn.gflownet.rollout import rollout
from mlegfn.randomness import generator

__all__ = ["GFlowNet", "train"]

TABULATE = 8  # all K listed states are evaluated at once where they are at most so many times the batch


class GFlowNet:
    """A policy, where it walks, and log Z.

    ``log_z`` is one number, so that it can have a rate of its own; objectives that need none leave it alone.
    """

    def __init__(self, policy, environment):
        self.policy, self.environment = policy, environment
        dtype = next(policy.parameters()).dtype
        self.log_z = torch.nn.Parameter(torch.zeros((), dtype=dtype))

    def table(self, count):
        """(logits, log flow) of all states with their graph, where that is the cheapest way; else None."""
        inputs = getattr(self.environment, "inputs", None)
        return None if inputs is None or len(inputs) > TABULATE * count else self.policy(inputs)

    def rollout(self, count, rng, exploration=0.0, table=None):
        logits = None if table is None else table[0].detach()
        return rollout(self.policy, self.environment, count, rng, exploration, logits)

    def loss(self, name, trajectories, table=None, parameters=None, **options):
        return loss(
            name, self.policy, self.environment, trajectories, self.log_z, table, parameters, **options
        )

    def score(self, trajectories, flows=None, table=None):
        return score(self.policy, self.environment, trajectories, self.log_z, flows, table)


def train(model, objective, settings, *key, seed=0, evaluate=None, description=None, **options):
    """Train ``model`` in place by ``objective`` and return it.

    :param settings: steps, batch, lr, log_z_lr, exploration (share of uniform actions; 0 for the on-policy ones)
    :param evaluate: called as evaluate(step) before the first step and after each of ``settings.evaluate_at``
    :param options: of the objective: alpha, control_variate, lam, …
    :raises ValueError: as ``loss``; and where a loss is not finite
    """
    chosen = OBJECTIVES[objective]
    parameters = list(model.policy.parameters())
    groups = [{"params": parameters, "lr": settings.lr}]
    if chosen.log_z:
        groups.append({"params": [model.log_z], "lr": settings.log_z_lr})
    optimizer = torch.optim.Adam(groups, fused=True)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, settings.steps, power=1.0)
    bar = tqdm(range(settings.steps), desc=description, mininterval=5, disable=description is None)
    for step in bar:
        table = model.table(settings.batch)
        drawn = model.rollout(
            settings.batch, generator(seed, *key, "rollout", step), settings.exploration, table
        )
        value = model.loss(objective, drawn, table, parameters, **options)
        if not math.isfinite(value.item()):
            raise ValueError(f"the loss is {value.item()} at step {step}; a smaller lr may help")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        if evaluate is not None and step + 1 in settings.evaluate_at:
            evaluate(step + 1)
    return model
