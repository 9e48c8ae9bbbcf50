"""GFlowNets proper: trained on an unnormalised reward, without data, by four balance conditions on one edge flow."""

import math
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from mlegfn.families.family import Check, Family, Fit, Panel
from mlegfn.families.fitting import train
from mlegfn.objectives.balance import (
    detailed_balance,
    flow_matching,
    sub_trajectory_balance,
    trajectory_balance,
)
from mlegfn.randomness import generator, seed_layers
from mlegfn.targets.enumeration import Enumeration
from mlegfn.targets.hypergrid import Hypergrid
from mlegfn.trajectory import score

OBJECTIVES = ("flow matching", "detailed balance", "trajectory balance", "sub-trajectory balance")
EXPLORATION = 0.1  # share of uniform actions while training
LAMBDA = 0.9  # of sub-trajectory balance, as Madan et al. 2023


class GFlowNet(Family):
    """Objects are built action by action up to *stop*, with probability proportional to a reward R(x).

    One log edge flow, log F(s → s'), is learned for every state and action, and a backward policy; the rest follows:
    F(s) = Σ_s' F(s → s'), P_F(s'|s) = F(s → s')/F(s), Z = F(s_0). So flow matching, detailed, trajectory and
    sub-trajectory balance train the same object, and at its zero each says p(x) = R(x)/Z.

    x_T is the initial state and T = depth + 1. A trajectory that stops early stays where it is, with probability 1
    both ways. Whether x_t has stopped needs no mark: the graph is graded, a state that has not is on level T − t, one
    that has is below. So P_B waits in x until t = T − level(x), undoes *stop*, and walks back.

    All states are listed (``Enumeration``) and the network is evaluated once on all of them, which is cheaper here than
    on those of a batch; samples, scores and losses look up. Without ``hidden`` the network is a table.
    """

    title = "GFlowNet proper"
    order = 60
    policies = ("F(s → s')/F(s), masked MLP", "Cat(parent), learned")
    deterministic = "neither"
    objective = "flow matching, DB, TB, sub-TB: squared residuals in logs"
    data = "none: the reward of a 16×16 hypergrid"

    def __init__(self, target, hidden=None, dtype=None):
        super().__init__()
        self.timesteps, self.shape = target.depth + 1, target.shape
        self.target, self.graph = target, Enumeration(target)
        self.count, self.edges = len(self.graph.states), target.actions - 1
        outputs = target.actions + self.edges
        if hidden is None:
            self.table = nn.Parameter(0.3 * torch.randn(self.count, outputs, dtype=torch.float64))
        else:
            self.features = target.features(self.graph.states).to(dtype or torch.float32)
            widths = (self.features.shape[1], hidden, hidden)
            layers = [m for a, b in zip(widths, widths[1:]) for m in (nn.Linear(a, b), nn.LeakyReLU())]
            self.network = nn.Sequential(*layers, nn.Linear(hidden, outputs))
        # A node is a state k, or K + k: stopped in it. A stopped node's one child is itself.
        absorbing = torch.full((self.count, target.actions), -1)
        absorbing[:, -1] = torch.arange(self.count, 2 * self.count)
        stop = torch.where(self.graph.allowed[:, -1:], absorbing[:, -1:], -1)
        self.moves = torch.cat([torch.cat([self.graph.children, stop], 1), absorbing])
        if dtype is not None:
            self.to(dtype)

    def flows(self):
        """What the network says of all K states (nodes): log edge flows ``edge`` [K, A], ``log_flow`` [2K] with
        log R where stopped, ``log_pf`` [2K, A] and ``log_pb`` [K, A−1]; −∞ where there is no such edge."""
        out = self.table if hasattr(self, "table") else self.network(self.features)
        edge = out[:, : -self.edges].masked_fill(~self.graph.allowed, -math.inf)
        flow = edge.logsumexp(1)
        stay = torch.full_like(edge, -math.inf).index_fill(1, torch.tensor(self.edges), 0.0)
        # Only s_0 has no parent; its row is never used, and kept free of −∞ − (−∞).
        orphan = (self.graph.parents < 0).all(1, keepdim=True)
        back = out[:, -self.edges :].masked_fill((self.graph.parents < 0) & ~orphan, -math.inf).log_softmax(1)
        return SimpleNamespace(
            edge=edge,
            log_flow=torch.cat([flow, self.graph.log_reward.to(flow.dtype)]),
            log_pf=torch.cat([edge - flow[:, None], stay]),
            log_pb=back.masked_fill(orphan, -math.inf),
        )

    def _node(self, x, t):
        """[N]: the node that state x at t is, and whether it can be one."""
        level = self.target.level(x)
        return self.target.index(x) + self.count * (level < self.timesteps - t), level <= self.timesteps - t

    def log_prior(self, x_T):
        origin = (x_T == self.target.initial(len(x_T))).flatten(1).all(1)
        return torch.zeros(len(x_T), dtype=next(self.parameters()).dtype).masked_fill(~origin, -math.inf)

    def log_pf(self, x_prev, x_t, t):
        (before, a), (after, b) = self._node(x_t, t), self._node(x_prev, t - 1)
        is_child = self.moves[before] == after[:, None]
        log_prob = self.flows().log_pf[before, is_child.int().argmax(1)]
        return log_prob.masked_fill(~(a & b & is_child.any(1)), -math.inf)

    def log_pb(self, x_prev, x_t, t):
        (before, a), (after, b) = self._node(x_t, t), self._node(x_prev, t - 1)
        stopped = after >= self.count
        is_parent = self.graph.parents[after % self.count] == before[:, None]
        log_prob = self.flows().log_pb[after % self.count, is_parent.int().argmax(1)]
        possible = torch.where(stopped, before % self.count == after % self.count, is_parent.any(1))
        return log_prob.masked_fill(stopped, 0.0).masked_fill(~(a & b & possible), -math.inf)

    @torch.no_grad()
    def sample_pb(self, x0, generator):
        parents, weight = self.graph.parents, self.flows().log_pb.exp()
        race = self._race(len(x0), self.edges, generator)
        state, level = self.target.index(x0), self.target.level(x0)
        path = [state]
        for t in range(self.timesteps):  # from x_t to x_{t+1}; waits, undoes the stop, and only then walks
            walks = t >= self.timesteps - level
            action = (weight[state] / race[t]).argmax(1)
            state = torch.where(walks, parents[state, action], state)
            path.append(state)
        return self.graph.states[torch.stack(path)]

    @torch.no_grad()
    def sample_pf(self, shape, generator):
        nodes, _ = self.walk(self.flows(), shape[0], generator)
        return self.graph.states[nodes.flip(0) % self.count]

    @torch.no_grad()
    def walk(self, flows, count, generator, exploration=0.0):
        """Nodes [T+1, N] from s_0 on and actions [T, N] of P_F mixed with ``exploration`` of uniform actions."""
        possible = (self.moves >= 0).double()
        weight = (1 - exploration) * flows.log_pf.double().exp() + exploration * possible / possible.sum(1, keepdim=True)
        race = self._race(count, self.edges + 1, generator)
        nodes, actions = [torch.zeros(count, dtype=torch.int64)], []
        for step in range(self.timesteps):
            actions.append((weight[nodes[-1]] / race[step]).argmax(1))
            nodes.append(self.moves[nodes[-1], actions[-1]])
        return torch.stack(nodes), torch.stack(actions)

    def _race(self, count, actions, generator):
        """[T, N, A] exponential: argmax(weight/race) is an action with probability ∝ weight, and none of weight 0."""
        return torch.empty(self.timesteps, count, actions, dtype=torch.float64).exponential_(generator=generator)

    def log_prob(self, x):
        return self.graph.terminating(self.flows().log_pf[: self.count])[self.target.index(x)]

    def domain(self):
        return self.graph.states[self.graph.allowed[:, -1]]

    def loss(self, objective, nodes, actions, flows):
        """[]: the mean squared residual of one of OBJECTIVES on trajectories of ``walk``; off-policy ones will do."""
        stopped = nodes >= self.count
        lengths = (~stopped).sum(0)
        if objective == "flow matching":
            visited = nodes[1:][torch.arange(self.timesteps)[:, None] < lengths]
            inflow, outflow = self._in_and_out(flows)
            return flow_matching(inflow[visited], outflow[visited]).mean()
        undone = flows.log_pb[nodes[1:] % self.count, actions.clamp(max=self.edges - 1)]
        log_pf, log_pb = flows.log_pf[nodes[:-1], actions].T, undone.masked_fill(stopped[1:], 0.0).T
        log_flow = flows.log_flow[nodes].T
        if objective == "trajectory balance":
            return trajectory_balance(log_pf.sum(1), log_pb.sum(1), log_flow[:, -1], log_flow[0, 0]).mean()
        if objective == "sub-trajectory balance":
            return sub_trajectory_balance(log_flow, log_pf, log_pb, LAMBDA, lengths).mean()
        return detailed_balance(log_flow, log_pf, log_pb, lengths).sum() / lengths.sum()

    def _in_and_out(self, flows):
        """Log edge flows into and out of every node, [2K, A]: into a stopped one goes *stop*, out of it R(x)."""
        into = F.pad(self.graph.into(flows.edge), (0, 1), value=-math.inf)
        alone = torch.full_like(into, -math.inf)
        last = torch.tensor([self.edges])
        stop = alone.index_copy(1, last, flows.edge[:, -1:])
        reward = alone.index_copy(1, last, flows.log_flow[self.count :, None])
        return torch.cat([into, stop]), torch.cat([flows.edge, reward])

    def learn(self, objective, settings, *key, description=None):
        """Train with one of OBJECTIVES on ``settings.batch`` trajectories a step, ε-exploring; ``key`` of the draws."""

        def loss(step):
            flows = self.flows()
            walk = self.walk(flows, settings.batch, generator(*key, objective, step), EXPLORATION)
            return self.loss(objective, *walk, flows)

        train(self.parameters(), loss, settings, description)
        return self

    @torch.no_grad()
    def distance(self):
        """L1, Σ_x |p(x) − R(x)/Z|, with p the exact terminating distribution."""
        return (self.log_prob(self.domain()).exp() - self.graph.log_prob.exp()).abs().sum().item()

    @classmethod
    def tiny(cls, dtype=torch.float64, seed=0):
        with torch.random.fork_rng([]):
            seed_layers(seed, "gflownet", "tiny")
            return cls(Hypergrid(2, 3), dtype=dtype)

    @classmethod
    def checks(cls, settings):
        return []

    @classmethod
    def fit(cls, settings, seed):
        return None
