"""A GFlowNet on a discrete target: a policy, where it walks, and one learned number, scored for every objective."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from mlegfn.gflownet import fast
from mlegfn.gflownet.losses import Loss, Scores, objective
from mlegfn.gflownet.rollout import Trajectories, backward_rollout, join, rollout
from mlegfn.objectives import balance

if TYPE_CHECKING:
    from mlegfn.gflownet.environment import Environment, Listed, Members
    from mlegfn.gflownet.policies import Parametric, Policy

__all__ = ["GFlowNet", "Model"]

TABULATE = 8  # all K listed states are evaluated at once where they are at most so many times the batch


class Table(NamedTuple):
    """What a policy says of all K states: logits [K, A] as they are, log P_F [K, A], log F(s) − log Z [K]."""

    logits: Tensor
    log_pf: Tensor
    log_flow: Tensor


class Drawn(Protocol):
    """What a model draws: ``Trajectories``, or ``Points``."""

    @property
    def objects(self) -> Tensor: ...

    @property
    def on_policy(self) -> bool: ...


D = TypeVar("D", bound=Drawn)


class Model(Generic[D]):
    """What discrete and continuous GFlowNets have in common: an offset of the flows and the choice of an objective.

    ``log_offset``, nats, is one number that is added to every log flow, a parameter apart, so that it can have a rate
    of its own; objectives that do not learn it leave it alone. Where F(s_0) is this number itself, it is log Z: for
    every objective but flow matching, of which only the sum of the flows out of s_0 is Z. So ask :meth:`log_z`.
    """

    policy: "Parametric"

    if TYPE_CHECKING:  # what each kind has of its own

        def table(self, count: int) -> Table | None: ...

        def rollout(
            self, count: int, rng: torch.Generator, exploration: float = 0.0, table: Table | None = None
        ) -> D: ...

        def back(self, objects: Tensor, rng: torch.Generator) -> D: ...

        def join(self, first: D, second: D) -> D: ...

        def score(self, trajectories: D, flows: str | None = None, table: Table | None = None) -> Scores: ...

        def flow_matching(self, trajectories: D, table: Table | None = None) -> Tensor: ...

        def log_outflow(self) -> Tensor: ...

    def __init__(self, policy: "Parametric") -> None:
        self.policy = policy
        self.log_offset = torch.nn.Parameter(torch.zeros((), dtype=next(policy.parameters()).dtype))

    def loss(
        self,
        name: str,
        trajectories: D,
        table: Table | None = None,
        parameters: Sequence[Tensor] | None = None,
        **options: Any,
    ) -> Tensor:
        """[]: the loss of ``losses.OBJECTIVES[name]``, with a graph to the policy's parameters and ``log_offset``.

        :param options: alpha, control_variate, lam, log_scale, bound: where the objective has them
        :param parameters: for the control variates of the score function; default: all of the policy's
        :raises ValueError: as ``losses.objective`` and the objectives themselves
        """
        chosen = objective(name, trajectories.on_policy)
        if chosen.flows == "edge":
            return self.flow_matching(trajectories, table)
        scores = self.score(trajectories, chosen.flows, table)
        loss = cast("Loss", chosen.loss)  # only flow matching has none
        return loss(scores, chosen.options | options, parameters or list(self.policy.parameters()))

    @torch.no_grad()
    def log_z(self, name: str) -> float | None:
        """log Z, nats, as this model has it after training by ``losses.OBJECTIVES[name]``; None where that learns none.

        Flow matching learns the flows of edges, F(s → s'), and Z is their sum over the children of s_0. All others
        that learn log Z learn it as the one number ``log_offset``.

        :raises ValueError: for an unknown objective, and for flow matching of a continuous policy
        """
        chosen = objective(name)
        if not chosen.log_z:
            return None
        return (self.log_outflow() if chosen.flows == "edge" else self.log_offset).item()

    @torch.no_grad()
    def guess_log_z(self, trajectories: D, table: Table | None = None) -> None:
        """Set ``log_offset`` to log mean R P_B/P_F of ``trajectories`` of the policy: by importance sampling, log Z.

        Where training starts; for flow matching it is an offset of the right size, no more.
        """
        log_pf, log_pb, log_reward = self.score(trajectories, table=table).sums
        self.log_offset.copy_((log_reward + log_pb - log_pf).logsumexp(0) - math.log(len(log_pf)))


class GFlowNet(Model[Trajectories]):
    """:param policy: inputs [N, …] → (logits [N, A], log F(s) − log Z [N])
    :param environment: ``Listed`` or ``Unlisted``, made with ``policy.inputs``
    """

    policy: "Policy"

    def __init__(self, policy: "Policy", environment: "Environment") -> None:
        super().__init__(policy)
        self.environment = environment

    def table(self, count: int) -> Table | None:
        """``Table`` of all states with its graph, where that is the cheapest way; else None."""
        states = self.environment.end
        if states is None or states > TABULATE * count or fast.suits(self.policy, self.environment):
            return None
        listed = cast("Listed", self.environment)
        logits, flow = self.policy(listed.inputs[:states])
        return Table(logits, (logits + listed.barrier[:-1]).log_softmax(1), flow)

    def rollout(
        self, count: int, rng: torch.Generator, exploration: float = 0.0, table: Table | None = None
    ) -> Trajectories:
        """``count`` Trajectories of the policy, mixed with ``exploration`` · uniform actions."""
        if table is None and not exploration and fast.suits(self.policy, self.environment):
            return fast.rollout(self.policy, cast("Listed | Members", self.environment), count, rng)
        known = None if table is None else table.log_pf.detach()
        return rollout(self.policy, self.environment, count, rng, exploration, known)

    def back(self, objects: Tensor, rng: torch.Generator) -> Trajectories:
        """Trajectories that end in ``objects`` (positions), by the uniform P_B: off-policy."""
        return backward_rollout(self.environment, objects, rng)

    def join(self, first: Trajectories, second: Trajectories) -> Trajectories:
        return join(first, second)

    def score(
        self, trajectories: Trajectories, flows: str | None = None, table: Table | None = None
    ) -> Scores:
        """``Scores``; without ``flows`` of whole trajectories only, which is cheaper: no table is padded."""
        if table is None and flows is None:
            known = fast.log_pf(self.policy, self.environment, trajectories)
            if known is not None:
                totals = (known[:, None], trajectories.totals(trajectories.log_pb)[:, None])
                return Scores(*totals, trajectories.log_reward, self.log_offset)
        at, actions = trajectories.positions, trajectories.actions
        if table is None:
            logits, flow = self.policy(self.environment.observe(at))
            log_pf = -F.cross_entropy(self.environment.masked(logits, at), actions, reduction="none")
        else:
            entry = torch.add(actions, at, alpha=self.environment.actions)
            log_pf = table.log_pf.view(-1).index_select(0, entry)
            # Without ``flows`` it is not read.
            flow = cast("Tensor", table.log_flow.index_select(0, at) if flows else None)
        log_pb, reward = trajectories.log_pb, trajectories.log_reward
        if flows is None:
            log_pf, log_pb = (trajectories.totals(x)[:, None] for x in (log_pf, log_pb))
            return Scores(log_pf, log_pb, reward, self.log_offset)
        width = int(trajectories.lengths.max())
        # F(s_0) is Z itself, whatever the network says there.
        inner = trajectories.padded(self.log_offset + flow * (trajectories.time > 0), width + 1)
        log_flow = inner.index_put((torch.arange(len(reward)), trajectories.lengths), reward)
        log_pf, log_pb = (trajectories.padded(x, width) for x in (log_pf, log_pb))
        return Scores(log_pf, log_pb, reward, self.log_offset, log_flow, trajectories.lengths)

    def flow_matching(self, trajectories: Trajectories, table: Table | None = None) -> Tensor:
        """[]: mean (log inflow − log outflow)² of the states that the trajectories enter, and of their ends.

        The logits are log F(s → s') − ``log_offset`` here. A state's inflow comes from all of its parents, so the network is
        evaluated at those too.
        """
        environment, stop = self.environment, self.environment.actions - 1
        moved = trajectories.actions != stop
        states, stopped = trajectories.children[moved], trajectories.positions[~moved]
        rows, actions = environment.undoable(states).nonzero(as_tuple=True)
        parents = environment.undo(states[rows], actions)
        edges = self._edges(torch.cat([states, stopped, parents]), table)
        out, at_stop, into = edges.split([len(states), len(stopped), len(parents)])
        ended = environment.level(states) == environment.depth
        outflow = torch.where(ended, environment.log_reward(states), out.logsumexp(1))
        inflow = out.new_full((len(states), stop), -torch.inf)
        inflow = inflow.index_put((rows, actions), into.gather(1, actions[:, None])[:, 0])
        residuals = [balance.flow_matching(inflow, outflow[:, None])]
        if len(stopped):
            reward = environment.log_reward(stopped)
            residuals.append(balance.flow_matching(at_stop[:, -1:], reward[:, None]))
        return torch.cat(residuals).mean()

    def log_outflow(self) -> Tensor:
        """float64 []: log Σ_s' F(s_0 → s'), nats: log Z of a model that flow matching has trained."""
        return self._edges(self.environment.initial(1), None).double().logsumexp(1)[0]

    def _edges(self, positions: Tensor, table: Table | None) -> Tensor:
        """[N, A]: log F(s → s'), −∞ where there is no edge."""
        if table is None:
            logits, _ = self.policy(self.environment.observe(positions))
        else:
            logits = table.logits.index_select(0, positions)
        return self.environment.masked(logits + self.log_offset, positions)
