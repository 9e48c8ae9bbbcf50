"""Training on one planar problem as 32 bits with one seed: P_F by the bound, P_B by what its arm says."""

import math

import torch
from tqdm import tqdm

from mlegfn.bits.entries import EntryLogits, soft_order
from mlegfn.bits.filling import BitFilling
from mlegfn.bits.network import BitNetwork
from mlegfn.bits.objective import backward_loss, consistency_loss, forward_loss, log_policies, times
from mlegfn.bits.planar import draw, significance
from mlegfn.data import gray
from mlegfn.randomness import generator, seed_layers
from reproduction.consistency.policy_arms import ARMS

__all__ = ["evaluations", "fit", "losses", "new_pair"]


def new_pair(arm, settings, seed):
    """The pair of ``arm`` before training; all arms of a seed start from the same P_F.

    :param settings: :class:`reproduction.consistency.policy_settings.Policy`
    """
    own = ARMS[arm]
    with torch.random.fork_rng([]):
        seed_layers(seed, "policy", "forward")
        forward = BitNetwork(gray.BITS, settings.hidden, settings.layers, outputs=2, decoded=settings.decoded)
        seed_layers(seed, "policy", "backward")
        network = BitNetwork(gray.BITS, settings.backward_hidden, 1, outputs=1, decoded=False)
    order = significance()
    logits = soft_order(order, settings.sharpness) if own.soft else torch.zeros(gray.BITS)
    backward = {"network": network, "entries": EntryLogits(logits)}.get(own.backward)
    return BitFilling(gray.BITS, forward, backward, order if own.backward == "ordered" else None)


def fit(problem, arm, settings, seed):
    """(the trained pair, what was spent on it)."""
    pair = new_pair(arm, settings, seed)
    groups = [list(policy.parameters()) for policy in (pair.policy_f, pair.policy_b) if policy is not None]
    rates = (settings.lr, settings.backward_lr)
    optimizer = torch.optim.Adam([{"params": own, "lr": lr} for own, lr in zip(groups, rates)])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for step in tqdm(range(settings.steps), desc=f"{problem} {seed}: {arm}", mininterval=5):
        value = sum(losses(problem, arm, settings, seed, pair, step))
        if not math.isfinite(value.item()):
            raise ValueError(f"the loss is {value.item()} at step {step}; a smaller lr may help")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        for own in groups:
            torch.nn.utils.clip_grad_norm_(own, settings.clip)
        optimizer.step()
        schedule.step()
    return pair, evaluations(arm, settings)


def losses(problem, arm, settings, seed, pair, step):
    """(P_F's loss, P_B's) of one step, nats, each with a gradient for its own policy alone.

    Data, times and the noise behind the orders are functions of (problem, seed, step): the arms share them. P_F has the
    bound of ``batch`` points at ``times`` times each, and of ``points`` of them along M whole trajectories, where every
    state counts alike. Where P_B is learned these trajectories are its own, and an arm without it spends as much.
    """
    own, count, rounds = ARMS[arm], settings.points, settings.trajectories
    draws = {
        use: generator(seed, "policy", problem, use, step) for use in ("orders", "times", "trajectories")
    }
    x = draw(problem, settings.batch, seed, "policy", step)
    some = x[:count].repeat_interleave(rounds, 0)
    t = times(len(x), gray.BITS, settings.times, draws["times"])
    at_times = forward_loss(pair, x, orders(pair, x, draws["orders"]), t, own.average).mean()
    steps = orders(pair, some, draws["trajectories"])
    backward = torch.zeros(())
    if own.learned:
        shape = (count, rounds, gray.BITS)
        log_pf, log_pb = (log_policies(pair, some, steps, each).view(shape) for each in (False, True))
        along = -log_pf.sum(2).mean()
        if own.loss == "score":
            backward = backward_loss(log_pf, log_pb).mean()
        else:
            backward = settings.weight * consistency_loss(log_pf, log_pb, "backward").mean()
    else:
        every = torch.arange(1, gray.BITS + 1).expand(len(some), -1)
        along = forward_loss(pair, some, steps, every, own.average).mean()
    states = torch.tensor([t.numel(), steps.numel()])
    share = states / states.sum()
    return share[0] * at_times + share[1] * along, backward


def orders(pair, x, rng):
    """``pair.orders``, but a uniform P_B draws as ``EntryLogits`` of zeros does: equal noise, equal orders."""
    if pair.uniform:
        return EntryLogits(torch.zeros(gray.BITS)).orders(len(x), rng)
    return pair.orders(x, rng)


def evaluations(arm, settings):
    """What training costs: data, trajectories, and states that each policy's network sees; those of P_F all with a
    gradient."""
    pairs = settings.points * settings.trajectories
    network = ARMS[arm].backward == "network"
    states = {
        "points": settings.batch,
        "trajectories": settings.batch + pairs,
        "forward": settings.batch * settings.times + pairs * gray.BITS,
        "backward": (settings.batch + 2 * pairs) * gray.BITS if network else 0,
    }
    return {name: value * settings.steps for name, value in states.items()}
