"""Rollouts of the perceptron by the compiled walk, and log P_F from its activations: the usual way, without waiting."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeGuard, cast

import torch
from torch import Tensor

from mlegfn.gflownet import compiled
from mlegfn.gflownet.environment import Listed, Members
from mlegfn.gflownet.policies import MLPPolicy
from mlegfn.gflownet.rollout import Trajectories, gumbel

if TYPE_CHECKING:
    from mlegfn.gflownet.compiled import Arrays
    from mlegfn.gflownet.environment import Environment
    from mlegfn.gflownet.policies import Policy

__all__ = ["Activations", "log_pf", "rollout", "suits"]


class Activations(NamedTuple):
    """What the perceptron computed on a walk: h1, h2 [L, H], masked logits z [L, A]; and of which weights."""

    h1: Tensor
    h2: Tensor
    z: Tensor
    versions: tuple[tuple[int, int], ...]


def suits(policy: "Policy", environment: "Environment") -> TypeGuard[MLPPolicy]:
    """Whether the compiled walk can take this policy and environment: two layers in float32 on a CPU."""
    return (
        isinstance(policy, MLPPolicy)
        and len(policy.layers) == 3
        and isinstance(environment, (Listed, Members))
        and policy.layers[0].weight.dtype == torch.float32 == environment.dtype
        and policy.layers[0].weight.device.type == "cpu"
    )


@torch.no_grad()
def rollout(
    policy: MLPPolicy, environment: Listed | Members, count: int, rng: torch.Generator
) -> Trajectories:
    """``rollout.rollout`` without exploration: the same noise, the same trajectories but for rounding."""
    noise = gumbel(environment, count, rng)
    most, actions = environment.depth * count, environment.actions
    hidden = policy.layers[0].out_features
    whole = [torch.empty(most, dtype=torch.int64) for _ in range(3)]  # actions, owner, time
    log_pb = torch.empty(most)
    activations: Sequence[Tensor] = [
        torch.empty(most, hidden),
        torch.empty(most, hidden),
        torch.empty(most, actions),
    ]
    if isinstance(environment, Members):
        objects = environment.initial(count)
        positions, children = (torch.empty(most, actions) for _ in range(2))
        lengths = torch.full((count,), environment.depth)
        rows: Sequence[Tensor] = (positions, children, *whole, log_pb)
        compiled.walk_members(
            environment.full.numpy(),
            _weights(policy),
            noise.numpy(),
            _numpy(rows),
            _numpy(activations),
            objects.numpy(),
        )
    else:
        objects, lengths = environment.initial(count), torch.empty(count, dtype=torch.int64)
        positions, children = (torch.empty(most, dtype=torch.int64) for _ in range(2))
        rows = (positions, children, *whole, log_pb)
        graph = (
            environment.inputs,
            environment.barrier,
            environment.moves.view(-1, actions),
            environment.backward,
        )
        many = compiled.walk_listed(
            *(_numpy(graph), _weights(policy), noise.numpy(), _numpy(rows), _numpy(activations)),
            *(lengths.numpy(), objects.numpy()),
        )
        rows, activations = ([values[:many] for values in each] for each in (rows, activations))
    positions, children, taken, owner, time, log_pb = rows
    h1, h2, z = activations
    return Trajectories(
        *(positions, children, taken, owner, time, objects, lengths, log_pb),
        *(environment.log_reward(objects), True),
        Activations(h1, h2, z, _versions(policy)),
    )


def log_pf(policy: "Policy", environment: "Environment", trajectories: Trajectories) -> Tensor | None:
    """[N]: log P_F of each trajectory with its graph, or None where the weights have changed since the walk."""
    known = trajectories.activations
    if known is None or known.versions != _versions(policy):
        return None
    x = environment.observe(trajectories.positions)
    weights = (p for layer in cast(MLPPolicy, policy).layers for p in (layer.weight, layer.bias))
    walked = (x, known.h1, known.h2, known.z, trajectories.actions, trajectories.owner)
    log_prob: Tensor = compiled.LogProb.apply(len(trajectories.objects), *walked, *weights)
    return log_prob


def _versions(policy: "Policy") -> tuple[tuple[int, int], ...]:
    """How often each parameter has been written to, and which it is."""
    return tuple((id(p), p._version) for p in policy.parameters())


def _weights(policy: MLPPolicy) -> "Arrays":
    """W [in, out] and b of the three layers as arrays; of the last without the flow."""
    *inner, last = policy.layers
    pairs = [(layer.weight.T, layer.bias) for layer in inner] + [(last.weight[:-1].T, last.bias[:-1])]
    return tuple(values.contiguous().numpy() for pair in pairs for values in pair)


def _numpy(tensors: Iterable[Tensor]) -> "Arrays":
    return tuple(values.numpy() for values in tensors)
