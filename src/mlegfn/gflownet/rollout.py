"""Trajectories of a discrete target, drawn forwards by a policy or backwards by the uniform P_B."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mlegfn.gflownet.environment import Environment, Listed
    from mlegfn.gflownet.fast import Activations
    from mlegfn.gflownet.policies import Policy

CHECK = 4  # steps after which it is seen how many trajectories go on …
SHRINK = 0.7  # … and those that do not are taken out where these are fewer than this share

__all__ = ["Trajectories", "backward_rollout", "join", "rollout"]


class Trajectories(NamedTuple):
    """N trajectories of together L actions, the actions of all in one row: none is padded.

    A trajectory ends by *stop*, or where it has reached the target's depth: *stop* is then all that is left, has
    probability 1 both ways, and is no action here.

    positions, children: [L, …]: before and after each action; after *stop* the same
    actions:   int64 [L]
    owner:     int64 [L]: the trajectory it belongs to
    time:      int64 [L]: which of its actions it is, from 0
    objects:   [N, …]: the positions where they end
    lengths:   int64 [N]: the number of their actions
    log_pb:    [L], log P_B of undoing each action; 0 of *stop*
    log_reward: [N], nats
    on_policy: whether they were drawn by the policy as it is, without exploration
    activations: of the network, where the walk kept them (``fast``)
    """

    positions: Tensor
    children: Tensor
    actions: Tensor
    owner: Tensor
    time: Tensor
    objects: Tensor
    lengths: Tensor
    log_pb: Tensor
    log_reward: Tensor
    on_policy: bool
    activations: "Activations | None" = None

    def totals(self, values: Tensor) -> Tensor:
        """[N]: the sums of ``values`` [L] over each trajectory."""
        return values.new_zeros(len(self.objects)).index_add(0, self.owner, values)

    def padded(self, values: Tensor, width: int) -> Tensor:
        """[N, width]: ``values`` [L] in a row a trajectory, 0 beyond its end."""
        return values.new_zeros(len(self.objects), width).index_put((self.owner, self.time), values)


def rollout(
    policy: "Policy",
    environment: "Environment",
    count: int,
    rng: torch.Generator,
    exploration: float = 0.0,
    table: Tensor | None = None,
) -> Trajectories:
    """Trajectories from s_0, by the policy's probabilities mixed with ``exploration`` · uniform.

    The action of largest logit + Gumbel noise has the softmax's probabilities; where a step explores, the logits are
    zero. All noise is drawn at once.

    :param policy: inputs [N, …] → (logits [N, A], log flow [N])
    :param table: [K, A], log P_F of all listed states, if they are known already
    """
    with torch.inference_mode():  # a microsecond less an operation, of which there are a dozen a step
        steps, at, live = _walk(policy, environment, count, rng, exploration, table)
    last, end = environment.actions - 1, environment.end
    positions, actions, owner = (torch.cat(parts) for parts in zip(*steps))
    time = torch.arange(len(steps)).repeat_interleave(torch.tensor([len(step[2]) for step in steps]))
    objects = environment.initial(count)
    if not environment.early:
        objects, children = at.clone(), environment.step(positions, actions)
        log_pb, lengths = environment.log_pb(children), torch.full((count,), len(steps))
    else:
        if end is not None:  # those at the end stayed only so that the others could go on
            going = (positions < end).nonzero()[:, 0]
            kept = (positions, actions, owner, time)
            positions, actions, owner, time = (values.index_select(0, going) for values in kept)
            gone = (at < end).nonzero()[:, 0]
            at, live = at[gone], live[gone]
        stop, go = (actions == last).nonzero()[:, 0], (actions != last).nonzero()[:, 0]
        objects[live] = at
        objects[owner[stop]] = positions[stop]
        children = positions.index_copy(0, go, environment.step(positions[go], actions[go]))
        log_pb = environment.log_pb(children).index_fill(0, stop, 0.0)
        lengths = torch.bincount(owner, minlength=count)
    reward = environment.log_reward(objects)
    return Trajectories(
        *(positions, children, actions, owner, time), *(objects, lengths, log_pb, reward), exploration == 0
    )


def gumbel(environment: "Environment", count: int, rng: torch.Generator) -> Tensor:
    """[T, N, A] Gumbel noise, −log(−log u): a logit plus it is largest with the softmax's probability."""
    noise = torch.rand(environment.depth, count, environment.actions, generator=rng)
    return noise.log_().neg_().log_().neg_()


def _walk(
    policy: "Policy",
    environment: "Environment",
    count: int,
    rng: torch.Generator,
    exploration: float,
    table: Tensor | None,
) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor, Tensor]:
    """([(positions, actions, owner) of each step], where those that are left are after the last, and which)."""
    last, end = environment.actions - 1, environment.end
    noise = gumbel(environment, count, rng)
    if exploration:
        keep = torch.rand(environment.depth, count, 1, generator=rng) >= exploration
    if table is None:
        logits_at = policy.walker() if hasattr(policy, "walker") else lambda inputs: policy(inputs)[0]
    elif end is not None:
        table = torch.cat([table, cast("Listed", environment).barrier[end:]])
    at, live, steps = environment.initial(count), torch.arange(count), []
    for time, drawn in enumerate(noise.unbind(0)):
        if len(live) < count:
            drawn = drawn.index_select(0, live)
        logits = logits_at(environment.observe(at)) if table is None else table.index_select(0, at)
        if exploration:
            logits = logits.where(keep[time, live], logits.new_zeros(()))
        if table is None or exploration:
            logits = environment.masked(logits, at)
        action = logits.add_(drawn).argmax(1)
        steps.append((at, action, live))
        if environment.early and (end is None or time % CHECK == CHECK - 1):
            go = (action != last).nonzero()[:, 0]
            if not len(go):
                return steps, at[:0], live[:0]
            if end is None or len(go) < SHRINK * len(live):
                at, action, live = (
                    at.index_select(0, go),
                    action.index_select(0, go),
                    live.index_select(0, go),
                )
        at = environment.step(at, action)
    return steps, at, live


@torch.no_grad()
def backward_rollout(environment: "Environment", objects: Tensor, rng: torch.Generator) -> Trajectories:
    """Trajectories that end in ``objects`` [N, …], walked back by the uniform P_B: never on-policy.

    An object of the largest level needs no *stop*; every other one has it as its last action.
    """
    count, last = len(objects), environment.actions - 1
    level = environment.level(objects)
    stopped = level < environment.depth
    lengths = level + stopped
    at, steps = objects, []
    if stopped.any():
        who = stopped.nonzero()[:, 0]
        steps.append((at[who], at[who], torch.full_like(who, last), who, level[who]))
    for time in reversed(range(int(level.max()) if count else 0)):
        who = (level > time).nonzero()[:, 0]
        child = at[who]
        possible = environment.undoable(child).float().cumsum(1)
        draw = torch.rand(len(who), 1, generator=rng) * possible[:, -1:]
        action = (possible <= draw).sum(1)
        at = at.clone()
        at[who] = environment.undo(child, action)
        steps.append((at[who], child, action, who, torch.full_like(who, time)))
    positions, children, actions, owner, times = (torch.cat(parts) for parts in zip(*steps))
    log_pb = environment.log_pb(children).masked_fill(actions == last, 0.0)
    return Trajectories(
        positions,
        children,
        actions,
        owner,
        times,
        objects,
        lengths,
        log_pb,
        environment.log_reward(objects),
        False,
    )


def join(first: Trajectories, second: Trajectories) -> Trajectories:
    """The trajectories of both; on-policy only if both are."""
    fields = cast("Iterable[tuple[str, Tensor, Tensor]]", zip(Trajectories._fields, first, second))
    both = {
        name: torch.cat([a, b]) for name, a, b in fields if name not in ("owner", "on_policy", "activations")
    }
    owner = torch.cat([first.owner, second.owner + len(first.objects)])
    on_policy = first.on_policy and second.on_policy
    return Trajectories(**both, owner=owner, on_policy=on_policy, activations=None)
