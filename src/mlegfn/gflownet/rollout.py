"""Trajectories of a discrete target, drawn forwards by a policy or backwards by the uniform P_B."""

from typing import NamedTuple

import torch
from torch import Tensor

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

    def totals(self, values):
        """[N]: the sums of ``values`` [L] over each trajectory."""
        return values.new_zeros(len(self.objects)).index_add(0, self.owner, values)

    def padded(self, values, width):
        """[N, width]: ``values`` [L] in a row a trajectory, 0 beyond its end."""
        return values.new_zeros(len(self.objects), width).index_put((self.owner, self.time), values)


@torch.no_grad()
def rollout(policy, environment, count, rng, exploration=0.0, table=None):
    """Trajectories from s_0, by the policy's probabilities mixed with ``exploration`` · uniform.

    :param policy: inputs [N, …] → (logits [N, A], log flow [N])
    :param rng: one uniform number an action is drawn from it; actions by inverting the cumulative distribution
    :param table: float32 [K, A], logits of all listed states, if they are known already
    """
    last = environment.actions - 1
    uniform = torch.rand(environment.depth, count, 1, generator=rng)
    if table is not None:
        table = _cumulative(table, environment.impossible, exploration)
    at, live = environment.initial(count), torch.arange(count)
    steps = []
    for time in range(environment.depth):
        if table is not None:
            sums = table.index_select(0, at)
        else:
            logits, _ = policy(environment.observe(at))
            sums = _cumulative(logits, environment.forbidden(at), exploration)
        action = (sums <= uniform[time, : len(live)] * sums[:, -1:]).sum(1)
        steps.append((at, action, live))
        if environment.early:
            go = (action != last).nonzero()[:, 0]
            if len(go) < len(live):
                at, action, live = (values.index_select(0, go) for values in (at, action, live))
                if not len(live):
                    break
        at = environment.step(at, action)
    positions, actions, owner = (torch.cat(parts) for parts in zip(*steps))
    time = torch.arange(len(steps)).repeat_interleave(torch.tensor([len(step[2]) for step in steps]))
    objects = environment.initial(count)
    objects[live] = at
    if environment.early:
        stopped = actions == last
        objects[owner[stopped]] = positions[stopped]
        go = (~stopped).nonzero()[:, 0]
        children = positions.index_copy(0, go, environment.step(positions[go], actions[go]))
        log_pb = environment.log_pb(children).masked_fill(stopped, 0.0)
    else:
        children = environment.step(positions, actions)
        log_pb = environment.log_pb(children)
    return Trajectories(
        positions,
        children,
        actions,
        owner,
        time,
        objects,
        torch.bincount(owner, minlength=count),
        log_pb,
        environment.log_reward(objects),
        exploration == 0,
    )


def _cumulative(logits, forbidden, exploration):
    """[N, A] cumulative sums of the probabilities; forbidden actions have none, so that no draw falls on them."""
    probability = logits.masked_fill(forbidden, -torch.inf).softmax(1)
    if exploration:
        allowed = (~forbidden).to(probability.dtype)
        probability = torch.lerp(probability, allowed / allowed.sum(1, keepdim=True), exploration)
    return probability.cumsum(1)


@torch.no_grad()
def backward_rollout(environment, objects, rng):
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
    positions, children, actions, owner, time = (torch.cat(parts) for parts in zip(*steps))
    log_pb = environment.log_pb(children).masked_fill(actions == last, 0.0)
    return Trajectories(
        positions,
        children,
        actions,
        owner,
        time,
        objects,
        lengths,
        log_pb,
        environment.log_reward(objects),
        False,
    )


def join(first, second):
    """The trajectories of both; on-policy only if both are."""
    both = {
        name: torch.cat([a, b])
        for name, a, b in zip(Trajectories._fields, first, second)
        if name not in ("owner", "on_policy")
    }
    owner = torch.cat([first.owner, second.owner + len(first.objects)])
    return Trajectories(**both, owner=owner, on_policy=first.on_policy and second.on_policy)
