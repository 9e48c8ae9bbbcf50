"""The walk of a two-layer perceptron compiled by Numba, and the gradient of log P_F from what the walk has computed.

In PyTorch a step of a rollout is a dozen operations on a few kilobytes, and each costs more to start than to do. Here
a step is one loop, with the matrix products by BLAS. The activations are kept, so that nothing is evaluated twice: for
log P_F(a|s) = z_a − log Σ e^z the gradient in the logits z is (1_a − P_F)·g, and from there it is that of a
perceptron. ``tests/mlegfn/gflownet/test_compiled.py`` holds both to what autograd gives.
"""

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlegfn.diffusion.decoder import Context

    Array = NDArray[Any]
    Arrays = tuple[Array, ...]

__all__ = ["LogProb", "walk_listed", "walk_members"]

SLOPE = 0.01  # LeakyReLU's


@numba.njit(cache=True)
def _layer(x: "Array", weight: "Array", bias: "Array", out: "Array") -> None:
    """out ← LeakyReLU(x W + b)."""
    np.dot(x, weight, out)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            value = out[i, j] + bias[j]
            out[i, j] = value if value > 0 else SLOPE * value


@numba.njit(cache=True)
def walk_listed(
    graph: "Arrays",
    weights: "Arrays",
    noise: "Array",
    rows: "Arrays",
    activations: "Arrays",
    lengths: "Array",
    objects: "Array",
) -> int:
    """Fill ``rows`` (positions, children, actions, owner, time, log P_B, all [L]), ``activations`` (h1, h2, z) and what
    trajectories come to; returns how many rows. Those that have stopped are taken out at once.

    graph: inputs [K+1, F], barrier [K+1, A], moves [K+1, A], log P_B of parents [K+1]; K is the end
    noise: [T, N, A]; z [L, A] gets the masked logits
    """
    inputs, barrier, moves, backward = graph
    w1, b1, w2, b2, w3, b3 = weights
    positions, children, actions, owner, time, log_pb = rows
    h1, h2, z = activations
    steps, count, width = noise.shape
    at, live, end = np.zeros(count, np.int64), np.arange(count), len(moves) - 1
    x = np.empty((count, inputs.shape[1]), inputs.dtype)
    row, alive = 0, count
    for t in range(steps):
        for i in range(alive):
            x[i] = inputs[at[i]]
        stop = row + alive
        _layer(x[:alive], w1, b1, h1[row:stop])
        _layer(h1[row:stop], w2, b2, h2[row:stop])
        np.dot(h2[row:stop], w3, z[row:stop])
        going = 0
        for i in range(alive):
            here, who, k = at[i], live[i], row + i
            best, action = -np.inf, 0
            for a in range(width):
                value = z[k, a] + b3[a] + barrier[here, a]
                z[k, a] = value
                if value + noise[t, who, a] > best:
                    best, action = value + noise[t, who, a], a
            after = moves[here, action]
            child = here if after == end else after
            positions[k], children[k], actions[k], owner[k], time[k] = here, child, action, who, t
            log_pb[k], lengths[who], objects[who] = backward[after], t + 1, child
            if after != end:
                at[going], live[going] = after, who
                going += 1
        row, alive = stop, going
        if alive == 0:
            break
    return row


@numba.njit(cache=True)
def walk_members(
    full: "Array",
    weights: "Arrays",
    noise: "Array",
    rows: "Arrays",
    activations: "Arrays",
    state: "Array",
) -> None:
    """The same for sets: positions and children [L, D+1], 0 or 1, with 1 for *stop*, which is never taken; all
    trajectories are as long. full [T+1]: log P_B into a set of so many. ``state`` [N, D+1] ends as the objects."""
    w1, b1, w2, b2, w3, b3 = weights
    positions, children, actions, owner, time, log_pb = rows
    h1, h2, z = activations
    steps, count, width = noise.shape
    x = np.zeros((count, width - 1), state.dtype)
    for t in range(steps):
        row, stop = t * count, (t + 1) * count
        positions[row:stop] = state
        _layer(x, w1, b1, h1[row:stop])
        _layer(h1[row:stop], w2, b2, h2[row:stop])
        np.dot(h2[row:stop], w3, z[row:stop])
        for i in range(count):
            k, best, action = row + i, -np.inf, 0
            for a in range(width):
                value = z[k, a] + b3[a] if state[i, a] == 0 else -np.inf
                z[k, a] = value
                if value + noise[t, i, a] > best:
                    best, action = value + noise[t, i, a], a
            actions[k], owner[k], time[k], log_pb[k] = action, i, t, full[t + 1]
            state[i, action], x[i, action] = 1, 1
        children[row:stop] = state


class LogProb(torch.autograd.Function):
    """log P_F(τ) [N] of the trajectories of a walk, from its activations: x [L, F], h1, h2 [L, H], masked logits z
    [L, A]; actions, owner [L]."""

    @staticmethod
    def forward(
        context: "Context",
        count: int,
        x: Tensor,
        h1: Tensor,
        h2: Tensor,
        z: Tensor,
        actions: Tensor,
        owner: Tensor,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        w3: Tensor,
        b3: Tensor,
    ) -> Tensor:
        log_p = z.log_softmax(1)
        context.save_for_backward(x, h1, h2, log_p, actions[:, None], owner, w2, w3)
        taken = log_p.gather(1, actions[:, None])[:, 0]
        return taken.new_zeros(count).index_add_(0, owner, taken)

    @staticmethod
    def backward(context: "Context", gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, h1, h2, log_p, actions, owner, w2, w3 = context.saved_tensors
        wide = w3.shape[0]  # the last row gives the flow, which log P_F does not depend on
        gradient = gradient.index_select(0, owner)[:, None]
        d3 = log_p.exp().mul_(-gradient)
        d3.scatter_add_(1, actions, gradient)
        d2 = _back(d3 @ w3[: wide - 1], h2)
        d1 = _back(d2 @ w2, h1)
        of_w3, of_b3 = (
            torch.nn.functional.pad(d3.T @ h2, (0, 0, 0, 1)),
            torch.nn.functional.pad(d3.sum(0), (0, 1)),
        )
        return *[None] * 7, d1.T @ x, d1.sum(0), d2.T @ h1, d2.sum(0), of_w3, of_b3


def _back(gradient: Tensor, h: Tensor) -> Tensor:
    """Through LeakyReLU, whose output h has the sign of its input."""
    before: Tensor = torch.ops.aten.leaky_relu_backward(gradient, h, SLOPE, True)
    return before
