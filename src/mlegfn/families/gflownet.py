"""GFlowNets proper: trained on an unnormalised reward, by four balance conditions on one edge flow."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from mlegfn.families.shared.comparing import gradient, relative
from mlegfn.families.shared.family import Check, Family, Fit, Panel
from mlegfn.families.shared.fitting import Pace, train
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

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Settings
    from mlegfn.targets import Target

__all__ = ["OBJECTIVES", "GFlowNet", "at_balance"]

OBJECTIVES = ("flow matching", "detailed balance", "trajectory balance", "sub-trajectory balance")
EXPLORATION = 0.1  # share of uniform actions while training
LAMBDA = 0.9  # of sub-trajectory balance, as Madan et al. 2023


class Flows(Protocol):
    """What ``flows`` gives."""

    @property
    def edge(self) -> Tensor: ...

    @property
    def log_flow(self) -> Tensor: ...

    @property
    def log_pf(self) -> Tensor: ...

    @property
    def log_pb(self) -> Tensor: ...


class Batches(Pace, Protocol):
    """What ``learn`` wants of its settings."""

    @property
    def batch(self) -> int: ...


class GFlowNet(Family):
    """Objects are built action by action up to *stop*, with probability proportional to a reward R(x).

    One log edge flow, log F(s → s'), is learned for every state and action, and a backward policy; the rest
    follows: F(s) = Σ_s' F(s → s'), P_F(s'|s) = F(s → s')/F(s), Z = F(s_0). So flow matching, detailed,
    trajectory and sub-trajectory balance train the same object, and at its zero each says p(x) = R(x)/Z.
    (Flow matching knows no P_B and leaves it as it was.)

    x_T is the initial state and T = depth + 1. A trajectory that stops early stays where it is, with
    probability 1 both ways. Whether x_t has stopped needs no mark: the graph is graded, a state that has not
    is on level T − t, one that has is below. So P_B waits in x until t = T − level(x), undoes *stop*, and
    walks back.

    All states are listed (``Enumeration``), and the network is evaluated once on all of them: they are fewer
    than the states of a batch of trajectories. Samples, scores and losses look up. Without ``hidden`` it is a
    table.
    """

    title = "GFlowNet proper"
    order = 60
    policies = ("F(s → s')/F(s), masked MLP", "Cat(parent), learned")
    deterministic = "neither"
    objective = "squared residuals of FM, DB, TB, sub-TB"
    data = "none: the reward R(x) of a square hypergrid"

    def __init__(self, target: Target, hidden: int | None = None, dtype: torch.dtype | None = None) -> None:
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
        if dtype is not None:
            self.to(dtype)

    def flows(self) -> Flows:
        """What the network says of all K states: log edge flows ``edge`` [K, A], ``log_flow`` [2K] with
        log R where stopped, ``log_pf`` [2K, A] and ``log_pb`` [K, A−1]; −∞ where there is no such edge."""
        out = self.table if hasattr(self, "table") else self.network(self.features)
        edge = out[:, : -self.edges].masked_fill(~self.graph.allowed, -math.inf)
        flow = edge.logsumexp(1)
        stay = torch.full_like(edge, -math.inf).index_fill(1, torch.tensor(self.edges), 0.0)
        # s_0 has no parent; its row is never used, and kept free of −∞ − (−∞).
        orphan = (self.graph.parents < 0).all(1, keepdim=True)
        back = out[:, -self.edges :].masked_fill((self.graph.parents < 0) & ~orphan, -math.inf).log_softmax(1)
        return SimpleNamespace(
            edge=edge,
            log_flow=torch.cat([flow, self.graph.log_reward.to(flow.dtype)]),
            log_pf=torch.cat([edge - flow[:, None], stay]),
            log_pb=back.masked_fill(orphan, -math.inf),
        )

    def _node(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """[N]: the node that state x at t is, and whether it can be one."""
        level = self.target.level(x)
        return self.target.index(x) + self.count * (level < self.timesteps - t), level <= self.timesteps - t

    def log_prior(self, x_T: Tensor) -> Tensor:
        origin = (x_T == self.target.initial(len(x_T))).flatten(1).all(1)
        return torch.zeros(len(x_T), dtype=next(self.parameters()).dtype).masked_fill(~origin, -math.inf)

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        (before, a), (after, b) = self._node(x_t, t), self._node(x_prev, t - 1)
        is_child = self.graph.moves[before] == after[:, None]
        log_prob = self.flows().log_pf[before, is_child.int().argmax(1)]
        return log_prob.masked_fill(~(a & b & is_child.any(1)), -math.inf)

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        (before, a), (after, b) = self._node(x_t, t), self._node(x_prev, t - 1)
        stopped = after >= self.count
        is_parent = self.graph.parents[after % self.count] == before[:, None]
        log_prob = self.flows().log_pb[after % self.count, is_parent.int().argmax(1)]
        possible = torch.where(stopped, before % self.count == after % self.count, is_parent.any(1))
        return log_prob.masked_fill(stopped, 0.0).masked_fill(~(a & b & possible), -math.inf)

    @torch.no_grad()
    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        path = self.graph.walk_back(self.flows().log_pb.double().exp(), self.target.index(x0), generator)
        return self.graph.states[path]

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        nodes, _ = self.graph.walk(self.flows().log_pf.double().exp(), shape[0], generator)
        return self.graph.states[nodes.flip(0) % self.count]

    def log_prob(self, x: Tensor) -> Tensor:
        return self.graph.terminating(self.flows().log_pf[: self.count])[self.target.index(x)]

    def domain(self) -> Tensor:
        return self.graph.states[self.graph.allowed[:, -1]]

    def parts(self, nodes: Tensor, actions: Tensor, flows: Flows) -> tuple[Tensor, Tensor, Tensor]:
        """(log F [N, T+1], log P_F [N, T], log P_B [N, T]) of ``graph.walk``, for the objectives."""
        undone = flows.log_pb[nodes[1:] % self.count, actions.clamp(max=self.edges - 1)]
        log_pb = undone.masked_fill(nodes[1:] >= self.count, 0.0)
        return flows.log_flow[nodes].T, flows.log_pf[nodes[:-1], actions].T, log_pb.T

    def loss(self, objective: str, nodes: Tensor, actions: Tensor, flows: Flows) -> Tensor:
        """[]: the mean squared residual of one of OBJECTIVES on what ``graph.walk`` gave, by any policy."""
        lengths = (nodes < self.count).sum(0)
        if objective == "flow matching":  # once a node, weighted by its visits: the same mean, cheaper
            visited = nodes[1:][torch.arange(self.timesteps)[:, None] < lengths]
            visits = torch.bincount(visited, minlength=2 * self.count)
            rows = visits.nonzero()[:, 0]
            inflow, outflow = self.graph.around(flows.edge, flows.log_flow[self.count :])
            return (flow_matching(inflow[rows], outflow[rows]) * visits[rows]).sum() / len(visited)
        log_flow, log_pf, log_pb = self.parts(nodes, actions, flows)
        if objective == "trajectory balance":
            return trajectory_balance(log_pf.sum(1), log_pb.sum(1), log_flow[:, -1], log_flow[0, 0]).mean()
        if objective == "sub-trajectory balance":
            return sub_trajectory_balance(log_flow, log_pf, log_pb, LAMBDA, lengths).mean()
        return detailed_balance(log_flow, log_pf, log_pb, lengths).sum() / lengths.sum()

    def learn(
        self, objective: str, settings: Batches, *key: int | str, description: str | None = None
    ) -> Self:
        """Train with one of OBJECTIVES on ``settings.batch`` trajectories a step; ``key`` names the draws."""

        def loss(step: int) -> Tensor:
            flows = self.flows()
            learned = flows.log_pf.detach().double().exp()
            policy = torch.lerp(learned, self.graph.uniform, EXPLORATION)
            walk = self.graph.walk(policy, settings.batch, generator(*key, objective, step))
            return self.loss(objective, *walk, flows)

        train(self.parameters(), loss, settings, description)
        return self

    @torch.no_grad()
    def distance(self) -> float:
        """L1, Σ_x |p(x) − R(x)/Z|, with p the exact terminating distribution."""
        learned = self.graph.terminating(self.flows().log_pf[: self.count])
        return (learned.exp() - self.graph.log_prob.exp()).abs().sum().item()

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        with torch.random.fork_rng([]):
            seed_layers(seed, "gflownet", "tiny")
            return cls(Hypergrid(2, 3), dtype=dtype)

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        return [*_exact_flow(cls), _gradient(cls), *_trained(cls)]

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        side = max(2, (settings.timesteps - 1) // 2 + 1)
        models = {}
        for objective in OBJECTIVES:
            with torch.random.fork_rng([]):
                seed_layers(seed, "gflownet", "init")
                model = cls(Hypergrid(2, side, r0=0.01), settings.hidden)
            named = f"gflownet, {objective}, {seed}"
            models[objective] = model.learn(objective, settings, seed, "gflownet", description=named)
        count = settings.steps * settings.batch
        graph = model.graph
        with torch.no_grad():
            learned = torch.stack([model.log_prob(model.domain()).exp() for model in models.values()])
        largest = graph.log_prob.exp().max()
        return Fit(
            models["trajectory balance"],
            {f"L1, {objective}": model.distance() for objective, model in models.items()}
            | {f"L1 of as many samples of the target as training drew, {count}": graph.sampling_floor(count)},
            [
                Panel("target", "images", (graph.log_prob.exp() / largest).view(1, side, side)),
                Panel(", ".join(models), "images", (learned / largest).clamp(max=1).view(-1, side, side)),
            ],
        )


@torch.no_grad()
def at_balance(model: GFlowNet) -> GFlowNet:
    """``model``, a table, with its edges set to the one flow that balances with its own P_B."""
    _, edges = model.graph.flow(model.flows().log_pb)
    model.table[:, : -model.edges] = edges.nan_to_num(neginf=0.0)
    return model


@torch.no_grad()
def _exact_flow(cls: type[GFlowNet]) -> list[Check]:
    model = at_balance(cls.tiny())
    x = model.domain()
    walks, flows = model.graph.every_walk(), model.flows()
    residual = max(model.loss(objective, *walks, flows).item() for objective in OBJECTIVES)
    states = model.sample_pb(x.repeat_interleave(64, 0), generator(0, "gflownet"))
    want = model.graph.log_prob
    off = max(
        (score(model, states).log_w - want.repeat_interleave(64)).abs().max().item(),
        (model.log_prob(x) - want).abs().max().item(),
    )
    return [
        # Residuals are sums of ≤ 2T rounding errors of numbers below 10, ≤ 1e-13; their squares are ≤ 1e-26.
        Check("at the exact flow: the largest of the four losses", residual, 1e-20, "nats²"),
        Check("at the exact flow: log w(τ), exact log p(x) and log R(x)/Z", off, 1e-12, "nats"),
    ]


def _gradient(cls: type[GFlowNet]) -> Check:
    """E_{P_F}[∇ TB] = 2 ∇ KL(P_F ‖ P_B R/Z), for P_F, Z given, summed over all trajectories."""
    model = cls.tiny()
    log_flow, log_pf, log_pb = model.parts(*model.graph.every_walk(), model.flows())
    log_pf, log_pb, log_reward = log_pf.sum(1), log_pb.sum(1).detach(), log_flow[:, -1]
    balance = trajectory_balance(log_pf, log_pb, log_reward, model.graph.log_z)
    kl = log_pf.exp() @ (log_pf - log_pb - log_reward + model.graph.log_z)
    surrogate = log_pf.exp().detach() @ balance
    off = relative(*(gradient(value, [model.table]) for value in (surrogate, 2 * kl)))
    return Check("on-policy gradient of TB, and 2 ∇KL(P_F‖P_B), all trajectories", off, 1e-10)


def _trained(cls: type[GFlowNet]) -> list[Check]:
    """Each objective on its own, tables on 8×8: all reach R(x)/Z.

    Tolerance: what 10⁶ samples could not tell, one standard error of the logarithm of the rarest frequency.
    """
    settings = SimpleNamespace(steps=600, batch=64, lr=0.2)
    rows, worst = [], 0.0
    for objective in OBJECTIVES:
        with torch.random.fork_rng([]):
            seed_layers(0, "gflownet", "checks")
            model = cls(Hypergrid(2, 8), dtype=torch.float64)
        model.learn(objective, settings, 0, "gflownet", "checks")
        with torch.no_grad():
            want = model.graph.log_prob
            off = (model.log_prob(model.domain()) - want).abs().max().item()
            worst = max(worst, (model.flows().log_flow[0] - model.graph.log_z).abs().item())
        tolerance = math.sqrt((1 / want.exp().min().item() - 1) / 10**6)
        rows.append(Check(f"trained by {objective}: exact log p(x) and log R(x)/Z", off, tolerance, "nats"))
    return [*rows, Check("learned and exact log Z, the worst of the four", worst, tolerance, "nats")]
