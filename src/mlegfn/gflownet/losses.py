"""Every objective on the same footing: what it needs of the trajectories, and its loss. A new one is a line below."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mlegfn.objectives import balance, divergences

__all__ = ["OBJECTIVES", "Scores", "loss", "score"]


class Scores(NamedTuple):
    """What the networks say of N trajectories of at most T actions, with graphs to their parameters.

    log_pf, log_pb: [N, T], 0 beyond the end (``lengths`` [N]) — or [N, 1], sums, where ``flows`` was not asked for
    log_flow:   [N, T+1] or None: log F(s_0) = log Z first, log R(x) last, or in ``log_flow[n, lengths[n]]``
    log_reward: [N]
    log_z:      []
    """

    log_pf: Tensor
    log_pb: Tensor
    log_reward: Tensor
    log_z: Tensor
    log_flow: Tensor | None = None
    lengths: Tensor | None = None

    @property
    def sums(self):
        """log P_F, log P_B, log R of whole trajectories, [N] each: what the trajectory objectives take."""
        return self.log_pf.sum(1), self.log_pb.sum(1), self.log_reward


@dataclass(frozen=True)
class Objective:
    """loss: (Scores, options, parameters) → []. options: what ``loss()`` was called with, over the defaults here.

    on_policy: valid only for trajectories of the policy itself; ``flows``: "state" or "edge" if it learns such;
    ``log_z``: whether log Z is learned.
    """

    title: str
    loss: Callable
    on_policy: bool = False
    flows: str | None = None
    log_z: bool = False
    options: dict = field(default_factory=dict)


def _divergence(function, *names):
    def evaluate(scores, options, parameters):
        chosen = {name: options[name] for name in names if name in options}
        variate = options["control_variate"]
        return function(*scores.sums, control_variate=variate, parameters=parameters, **chosen)

    return evaluate


def _trajectory_balance(scores, options, parameters):
    return balance.trajectory_balance(*scores.sums, scores.log_z).mean()


def _log_variance(scores, options, parameters):
    return balance.log_variance(*scores.sums).mean()


def _detailed_balance(scores, options, parameters):
    residuals = balance.detailed_balance(scores.log_flow, scores.log_pf, scores.log_pb, scores.lengths)
    return residuals.sum() / scores.lengths.sum()


def _sub_trajectory_balance(scores, options, parameters):
    return balance.sub_trajectory_balance(
        scores.log_flow, scores.log_pf, scores.log_pb, options["lam"], scores.lengths
    ).mean()


LEAVE_ONE_OUT = {"control_variate": "leave_one_out"}
ALPHA = LEAVE_ONE_OUT | {"alpha": 0.5}

OBJECTIVES = {
    "trajectory_balance": Objective("TB", _trajectory_balance, log_z=True),
    "log_variance": Objective("log-variance", _log_variance),
    "detailed_balance": Objective("DB", _detailed_balance, flows="state", log_z=True),
    "sub_trajectory_balance": Objective(
        "sub-TB", _sub_trajectory_balance, flows="state", log_z=True, options={"lam": 0.9}
    ),
    "flow_matching": Objective("FM", None, flows="edge", log_z=True),
    "reverse_kl": Objective("reverse KL", _divergence(divergences.reverse_kl), True, options=LEAVE_ONE_OUT),
    "forward_kl": Objective(
        "forward KL", _divergence(divergences.forward_kl, "log_scale"), True, options=LEAVE_ONE_OUT
    ),
    "renyi": Objective("Rényi-α", _divergence(divergences.renyi, "alpha"), True, options=ALPHA),
    "tsallis": Objective(
        "Tsallis-α", _divergence(divergences.tsallis, "alpha", "log_scale"), True, options=ALPHA
    ),
}


def score(policy, environment, trajectories, log_z, flows=None, table=None):
    """``Scores`` of trajectories; ``flows="state"`` asks for log F(s) too, which costs a padded table.

    :param table: (logits [K, A], log flow [K]) of all listed states, if they are known already
    """
    if table is None:
        logits, flow = policy(environment.observe(trajectories.positions))
    else:
        logits, flow = (values[trajectories.positions] for values in table)
    logits = logits.masked_fill(environment.forbidden(trajectories.positions), -torch.inf)
    log_pf = logits.gather(1, trajectories.actions[:, None])[:, 0] - logits.logsumexp(1)
    log_pb, reward = trajectories.log_pb.to(log_pf.dtype), trajectories.log_reward.to(log_pf.dtype)
    if flows is None:
        totals = (trajectories.totals(x)[:, None] for x in (log_pf, log_pb))
        return Scores(*totals, reward, log_z)
    width = int(trajectories.lengths.max())
    inner = trajectories.padded(log_z + flow * (trajectories.time > 0), width=width + 1)  # F(s_0) = Z itself
    rows = torch.arange(len(reward))
    return Scores(
        trajectories.padded(log_pf, width=width),
        trajectories.padded(log_pb, width=width),
        reward,
        log_z,
        inner.index_put((rows, trajectories.lengths), reward),
        trajectories.lengths,
    )


def loss(name, policy, environment, trajectories, log_z, table=None, parameters=None, **options):
    """[]: the loss of ``OBJECTIVES[name]`` on trajectories, with a graph to the policy's parameters and log Z.

    :param log_z: [], a parameter; used only by the objectives that learn it
    :param options: alpha, control_variate, lam, log_scale, where the objective has them
    :raises ValueError: for an unknown objective, and for trajectories that another policy drew given to an
        objective that is valid on-policy only
    """
    if name not in OBJECTIVES:
        raise ValueError(f"no objective {name!r}; there are {', '.join(OBJECTIVES)}")
    objective = OBJECTIVES[name]
    if objective.on_policy and not trajectories.on_policy:
        raise ValueError(
            f"{name} is an expectation over the policy's own trajectories; these were drawn by another (exploration, a "
            f"replay buffer, or backwards): use trajectory_balance or f_balance, which are valid for any"
        )
    if objective.flows == "edge":
        return flow_matching(policy, environment, trajectories, log_z, table)
    scores = score(policy, environment, trajectories, log_z, objective.flows, table)
    return objective.loss(scores, objective.options | options, parameters)


def flow_matching(policy, environment, trajectories, log_z, table=None):
    """[]: mean (log inflow − log outflow)² of the states that N trajectories enter, and of their ends.

    The logits are log F(s → s') − log Z here. A state's inflow comes from all of its parents, so the network is
    evaluated at those too.
    """
    stop = environment.actions - 1
    moved = trajectories.actions != stop
    states = trajectories.children[moved]
    ended = environment.level(states) == environment.depth
    edges = _edges(policy, environment, states, log_z, table)
    reward = environment.log_reward(states).to(edges.dtype)
    outflow = torch.where(ended, reward, edges.logsumexp(1))
    rows, actions = environment.undoable(states).nonzero(as_tuple=True)
    parents = environment.undo(states[rows], actions)
    into = _edges(policy, environment, parents, log_z, table).gather(1, actions[:, None])[:, 0]
    table_in = edges.new_full((len(states), stop), -torch.inf).index_put((rows, actions), into)
    residuals = balance.flow_matching(table_in, outflow[:, None])
    stopped = trajectories.positions[~moved]
    if not len(stopped):
        return residuals.mean()
    at_stop = _edges(policy, environment, stopped, log_z, table)[:, -1:]
    rewards = environment.log_reward(stopped).to(edges.dtype)[:, None]
    return torch.cat([residuals, balance.flow_matching(at_stop, rewards)]).mean()


def _edges(policy, environment, positions, log_z, table):
    """[N, A]: log F(s → s'), −∞ where there is no edge."""
    logits = policy(environment.observe(positions))[0] if table is None else table[0][positions]
    return (logits + log_z).masked_fill(environment.forbidden(positions), -torch.inf)
