"""MLE-GFN on a planar problem as 32 bits, with one seed: arms that differ in P_B and in TBC."""

from types import SimpleNamespace

import torch

from mlegfn.bits import planar
from mlegfn.bits.filling import BitFilling
from mlegfn.bits.network import BitNetwork
from mlegfn.bits.objective import backward_loss, consistency_loss, forward_loss, log_policies, times
from mlegfn.bits.planar import draw, emptied_at, hamming_mmd, likelihood_fields, log_weights, significance
from mlegfn.data import gray
from mlegfn.families.shared.fitting import train
from mlegfn.randomness import generator, seed_layers

__all__ = ["ARMS", "fit", "floor", "measure", "new_pair"]

# arm: (P_B, whether TBC is added to the bound)
ARMS = {
    "random": ("uniform", False),
    "random_tbc": ("uniform", True),
    "learned": ("learned", False),
    "learned_tbc": ("learned", True),
    "ordered": ("ordered", False),  # one trajectory: TBC is zero
}


def new_pair(arm, settings, seed):
    """The pair of ``arm`` (bits.settings.Bits) before training; all arms of a seed start from the same P_F."""
    backward = ARMS[arm][0]
    with torch.random.fork_rng([]):
        seed_layers(seed, "discrete", "forward")
        policy_f = BitNetwork(
            gray.BITS, settings.hidden, settings.layers, outputs=2, decoded=settings.decoded
        )
        seed_layers(seed, "discrete", "backward")
        policy_b = BitNetwork(gray.BITS, settings.backward_hidden, 1, outputs=1, decoded=False)
    return BitFilling(
        gray.BITS,
        policy_f,
        policy_b if backward == "learned" else None,
        significance() if backward == "ordered" else None,
    )


def fit(problem, arm, settings, seed):
    """(the trained pair, what was spent on it). The x's of a step are the same for every arm."""
    pair = new_pair(arm, settings, seed)
    backward, tbc = ARMS[arm]
    learned, count, rounds = backward == "learned", settings.backward_points, settings.trajectories

    def loss(step):
        x = draw(problem, settings.batch, seed, "train", step)
        rng = generator(seed, "discrete", problem, "order", step)
        total = forward_loss(
            pair, x, pair.orders(x, rng), times(len(x), gray.BITS, settings.times, rng)
        ).mean()
        if not (learned or tbc):
            return total
        some = x[:count].repeat_interleave(rounds, 0)
        steps = pair.orders(some, rng)
        shape = (count, rounds, gray.BITS)
        with torch.set_grad_enabled(tbc):
            log_pf = log_policies(pair, some, steps, backward=False).view(shape)
        log_pb = log_policies(pair, some, steps, backward=True).view(shape)
        if learned:
            total = total + backward_loss(log_pf, log_pb).mean()
        if tbc:
            total = total + settings.weight * consistency_loss(log_pf, log_pb, settings.policy).mean()
        return total

    train(
        pair.parameters(),
        loss,
        SimpleNamespace(steps=settings.steps, lr=settings.lr),
        f"{problem} {seed}: {arm}",
    )
    return pair, evaluations(arm, settings)


def evaluations(arm, settings):
    """What training costs: data points, trajectories, and states that each policy's network is evaluated at."""
    backward, tbc = ARMS[arm]
    pairs = settings.backward_points * settings.trajectories if backward == "learned" or tbc else 0
    states = {
        "points": settings.batch,
        "trajectories": settings.batch + pairs,
        "forward": settings.batch * settings.times + pairs * gray.BITS,
        "backward": (settings.batch + 2 * pairs) * gray.BITS if backward == "learned" else 0,
    }
    return {name: value * settings.steps for name, value in states.items()}


def measure(problem, arm, settings, seed):
    """One arm trained with one seed: (its fields in the metrics file, samples [sample_points, 2]).

    settings: :class:`reproduction.bits.settings.Bits`. Samples are centres of cells. Test points are the same for all
    seeds and arms.
    """
    test, truth = planar.tested(problem, settings.test_points, seed=0)
    fresh = draw(problem, settings.sample_points, 0, "fresh")
    pair, spent = fit(problem, arm, settings, seed)
    # With a fixed order there is one trajectory, and w is p(x) itself.
    count = 1 if ARMS[arm][0] == "ordered" else settings.importance_samples
    log_w = log_weights(pair, test, count, generator(0, "discrete", problem, "importance"))
    samples = pair.sample_pf(
        (settings.sample_points, gray.BITS), generator(seed, "discrete", problem, "sample")
    )[0]
    return {
        "model": arm,
        "seed": seed,
        "trajectories": count,
        **likelihood_fields(problem, log_w, truth),
        "mmd": hamming_mmd(samples[: settings.mmd_points], fresh[: settings.mmd_points]),
        "order": emptied_at(pair, test),
        "evaluations": spent,
    }, gray.decode(samples, gray.INT_SCALE[problem])


def floor(problem, settings):
    """What the MMD² between data and data is: the statistics of ``mmd_floor``."""
    return planar.floor(problem, settings.mmd_points, settings.mmd_repeats)
