"""MLE-GFN on a planar problem as 32 bits, with one seed: arms that differ in P_B and in TBC."""

import math
from types import SimpleNamespace

import torch

from mlegfn.bits.filling import BitFilling
from mlegfn.bits.network import BitNetwork
from mlegfn.bits.objective import backward_loss, consistency_loss, forward_loss, log_policies, times
from mlegfn.data import gray, planar
from mlegfn.data.mmd import mmd2_unbiased, mmd_floor
from mlegfn.data.planar_density import log_density
from mlegfn.families.shared.fitting import train
from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.randomness import generator, seed_layers

__all__ = [
    "ARMS",
    "HAMMING",
    "draw",
    "fit",
    "floor",
    "hamming_mmd",
    "likelihood_fields",
    "log_weights",
    "measure",
    "new_pair",
    "significance",
]

# arm: (P_B, whether TBC is added to the bound)
ARMS = {
    "random": ("uniform", False),
    "random_tbc": ("uniform", True),
    "learned": ("learned", False),
    "learned_tbc": ("learned", True),
    "ordered": ("ordered", False),  # one trajectory: TBC is zero
}

# EB-GFN's kernel is exp(−0.1 · Hamming distance). Of bits that distance is |x − y|², so it is a Gaussian of σ² = 5.
HAMMING = (math.sqrt(5.0),)
STATES = 65_536  # evaluated at once


def significance(length=gray.BITS, coordinates=2):
    """int64 [D]: the steps at which an order empties the least significant digits first, the signs last."""
    digit = torch.arange(length).view(coordinates, -1).T.flatten()  # the entries, most significant first
    return length - digit.argsort()


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


def draw(problem, count, seed, *key):
    """[count, 32] fresh data as bits; a function of (problem, seed, key)."""
    points = planar.sample(problem, count, generator(seed, "discrete", problem, *key))
    return gray.encode(points, gray.INT_SCALE[problem])


@torch.no_grad()
def log_weights(pair, x, count, rng):
    """log w [N, count] of ``count`` trajectories of P_B from each x [N, 32]."""
    parts = []
    for part in x.split(max(1, STATES // (count * gray.BITS))):
        xs = part.repeat_interleave(count, 0)
        steps = pair.orders(xs, rng)
        log_w = log_policies(pair, xs, steps, backward=False) - log_policies(pair, xs, steps, backward=True)
        parts.append(log_w.double().sum(1).view(len(part), count))
    return torch.cat(parts)


def measure(problem, arm, settings, seed):
    """One arm trained with one seed: (its fields in the metrics file, samples [sample_points, 2]).

    settings: :class:`reproduction.bits.settings.Bits`. Samples are centres of cells. Test points are the same for all
    seeds and arms.
    """
    points = planar.sample(problem, settings.test_points, generator(0, "discrete", problem, "test"))
    test = gray.encode(points, gray.INT_SCALE[problem])
    truth = log_density(problem, points) - gray.log_cells(problem)
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
    return mmd_floor(
        lambda n, k: draw(problem, n, 0, "floor", k).double(),
        settings.mmd_points,
        settings.mmd_repeats,
        HAMMING,
    )


def likelihood_fields(problem, log_w, truth):
    """A run's NLL fields, nats, from log-weights [N, K] and the data's own log-probabilities [N].

    NLL = H + mean of (log p_data − log p_model): E[log p_data] = −H is known, so that the points' own chance, a
    hundred times larger than what separates the models, drops out. ``nll_points`` is the plain mean.
    """
    importance, bound = importance_weighted(log_w), elbo(log_w)
    entropy, count = gray.data_entropy(problem), len(log_w)
    return {
        "nll": entropy + (truth - importance).mean().item(),
        "nll_standard_error": (truth - importance).std().item() / math.sqrt(count),
        "elbo_nll": entropy + (truth - bound).mean().item(),
        "nll_points": -importance.mean().item(),
        "nll_points_standard_error": importance.std().item() / math.sqrt(count),
        "log_w_variance": log_w.var(1).mean().item() if log_w.shape[1] > 1 else 0.0,
    }


def hamming_mmd(x, y):
    """Unbiased MMD² of bit strings [n, D] and [m, D]."""
    return mmd2_unbiased(x.double(), y.double(), HAMMING)


def emptied_at(pair, x):
    """[D] floats: the mean step at which P_B empties each entry; (T + 1)/2 where it does not matter."""
    steps = pair.orders(x, generator(0, "discrete", "emptied"))
    return [round(value, 2) for value in steps.double().mean(0).tolist()]
