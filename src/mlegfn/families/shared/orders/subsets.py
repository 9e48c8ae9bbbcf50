"""All orders of filling in D entries, exactly: one sum over the 2^D subsets that are filled, not over D! orders.

A state on the way to x is x on a subset S and empty elsewhere, so for one x the trajectories are the paths through
the lattice of subsets from ∅ to {1…D}. With the flow F(S) = Σ over paths to S of Π P_F,

    F(∅) = 1,    F(S) = Σ_{i∈S} F(S∖i) P_F(S|S∖i),    p(x) = F({1…D}),

and likewise for anything additive along the path. Used where D is small, in float64.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from mlegfn.families.shared.orders.levels import EMPTY

if TYPE_CHECKING:
    from mlegfn.trajectory import MarkovPair

__all__ = ["Exact", "exact", "orders"]


class Exact(NamedTuple):
    """Of each x, [N], nats (variance: nats²), differentiable in every parameter.

    log_p:     log p(x)
    elbo:      E log w over τ ~ P_B(·|x)
    variance:  Var log w over the same
    posterior: E log w with P_F's own posterior over orders in place of P_B, P_B(S∖i|S) = F(S∖i) P_F(S|S∖i) / F(S):
               the best P_B there is, and log p(x) itself
    """

    log_p: Tensor
    elbo: Tensor
    variance: Tensor
    posterior: Tensor


def exact(pair: "MarkovPair", x: Tensor) -> Exact:
    """``Exact`` of x [N, D] under ``pair``, whose states are x with −1 where empty."""
    count, length = x.shape
    sets = sorted(range(2**length), key=lambda s: (s.bit_count(), s))
    where = {s: k for k, s in enumerate(sets)}
    into = [(where[s & ~(1 << i)], k) for k, s in enumerate(sets) for i in range(length) if s >> i & 1]
    source, target = torch.tensor(into, device=x.device).T
    filled = torch.tensor(sets, device=x.device)[:, None] >> torch.arange(length, device=x.device) & 1 == 1
    states = torch.where(filled, x[:, None], EMPTY)
    before, after = states[:, source].flatten(0, 1), states[:, target].flatten(0, 1)
    t = (length - filled.sum(1)[source]).repeat(count)
    log_pf, log_pb = (f(after, before, t).view(count, -1) for f in (pair.log_pf, pair.log_pb))

    log_flow = pair.log_prior(states[:, 0])[:, None]
    mean = best = log_flow
    square = mean.square()
    first = 0
    for size in range(1, length + 1):  # the steps into the sets of this size lie together, ``size`` a set
        last = first + math.comb(length, size) * size
        parent, f, b = (v[..., first:last].unflatten(-1, (-1, size)) for v in (source, log_pf, log_pb))
        paths = log_flow[:, parent] + f
        flow = paths.logsumexp(2)
        posterior = paths - flow[..., None]
        weight, gain = b.exp(), f - b
        here = [  # of the sets of this size: means over the step that leads there
            flow,
            (weight * (gain + mean[:, parent])).sum(2),
            (weight * (gain.square() + 2 * gain * mean[:, parent] + square[:, parent])).sum(2),
            (posterior.exp() * (f - posterior + best[:, parent])).sum(2),
        ]
        log_flow, mean, square, best = (
            torch.cat(both, 1) for both in zip((log_flow, mean, square, best), here)
        )
        first = last
    log_p, elbo, second, best = (v[:, -1] for v in (log_flow, mean, square, best))
    return Exact(log_p, elbo, second - elbo.square(), best)


def orders(x: Tensor) -> Tensor:
    """[D+1, N, D!, D]: the states of every trajectory to each x [N, D], by going through all D! orders."""
    length = x.shape[1]
    rank = torch.cartesian_prod(*[torch.arange(length)] * length).view(-1, length)
    rank = rank[rank.sort(1).values.eq(torch.arange(length)).all(1)]
    filled = torch.arange(length, -1, -1)
    return torch.where(rank < filled[:, None, None, None], x[:, None], EMPTY)
