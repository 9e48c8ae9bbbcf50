"""Small pairs on bit strings whose trajectories can all be listed."""

import itertools
import math

import torch
from torch import nn

from mlegfn.bits.entries import EntryLogits
from mlegfn.bits.filling import BitFilling
from mlegfn.bits.network import BitNetwork
from mlegfn.bits.objective import log_policies

LENGTH = 4  # 2 coordinates of a sign and a digit; 4! = 24 orders
SIGNS_LAST = torch.tensor(
    [4, 2, 3, 1]
)  # the step at which each entry is emptied, of the order of ``ordered``


def pair_of(kind, seed=0, length=LENGTH, decoded=True):
    """A pair with random parameters, float64; kind: uniform, learned, entries, ordered."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        forward = BitNetwork(length, 8, 2, outputs=2, decoded=decoded)
        backward = BitNetwork(length, 8, 1, outputs=1, decoded=False) if kind == "learned" else None
        backward = EntryLogits(torch.zeros(length)) if kind == "entries" else backward
        pair = BitFilling(length, forward, backward, SIGNS_LAST if kind == "ordered" else None)
        for parameter in pair.parameters():
            nn.init.normal_(
                parameter, std=0.3
            )  # wilder policies have weights that a few thousand do not average
    return pair.double()


def domain(length=LENGTH):
    return torch.cartesian_prod(*[torch.arange(2)] * length)


def all_orders(length=LENGTH):
    return torch.tensor(list(itertools.permutations(range(1, length + 1))))


def every_trajectory(pair, x):
    """(log P_F, log P_B), each [N, orders, T], of all orders of each x."""
    orders = all_orders(x.shape[1])
    xs, steps = x.repeat_interleave(len(orders), 0), orders.repeat(len(x), 1)
    return [
        log_policies(pair, xs, steps, backward).view(len(x), len(orders), -1) for backward in (False, True)
    ]


def exact_elbo(pair, x):
    """[N]: Σ over orders of P_B(τ|x) log w(τ), differentiable in both policies."""
    log_pf, log_pb = (each.sum(2) for each in every_trajectory(pair, x))
    possible = log_pb > -math.inf
    log_w = torch.where(possible, log_pf - torch.where(possible, log_pb, 0.0), 0.0)
    return (log_pb.exp() * log_w).sum(1)


def gradient(value, module):
    parameters = list(module.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found)])


def close(a, b):
    # float64 sums of at most 1e5 terms: 1e-12 of the largest
    return (a - b).abs().max() <= 1e-10 * b.abs().max()
