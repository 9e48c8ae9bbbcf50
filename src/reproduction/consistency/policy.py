"""Stage ``policy``: one planar problem as 32 bits → what consistency does to P_B, beside the bound and a uniform P_B.

In:  nothing but the settings: the data are drawn by mlegfn.data.planar and encoded by mlegfn.data.gray
Out: results/<scale>/consistency/metrics/policy/<problem>.json
"""

from functools import partial
from pathlib import Path

import torch

from mlegfn.artifacts import write_json
from mlegfn.bits import planar
from mlegfn.data import gray
from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.randomness import generator
from reproduction.consistency import policy_training
from reproduction.consistency.policy_arms import ARMS, REFERENCE

QUANTITIES = ("nll", "elbo_nll", "log_w_variance")


def run(stage, problem):
    """Train and measure every seed and arm; one that is finished is kept."""
    torch.set_num_threads(1)
    keep = partial(stage.keep, folder=Path("policy", problem))
    metrics = measure(problem, stage.settings.policy, keep)
    for entry in metrics["runs"]:
        print(
            f"{problem} seed {entry['seed']} {entry['arm']:14s} NLL {entry['nll']:.4f} ± "
            f"{entry['nll_standard_error']:.4f} nats (data {metrics['entropy']:.4f}, bound {entry['elbo_nll']:.4f}), "
            f"Δ {entry['differences']['nll']['value']:+.4f}, rank correlation {entry['rank_correlation']:+.2f}"
        )
    write_json(stage.path("metrics", "policy", f"{problem}.json"), {"scale": stage.scale, **metrics})


def measure(problem, settings, keep):
    """All seeds and arms on ``problem``: the contents of the metrics file without the scale.

    :param settings: :class:`reproduction.consistency.policy_settings.Policy`
    :param keep: as :meth:`reproduction.stage.Stage.keep`
    """
    runs = []
    for seed in settings.seeds:
        found = {}
        for arm in settings.arms:

            def compute(arm=arm, seed=seed):
                return train_and_measure(problem, arm, settings, seed)

            found[arm] = keep(f"{arm}-{seed}", depends_on(settings, arm, seed), compute)
        reference = found[REFERENCE][1]
        runs += [
            {**fields, "differences": differences(of_points, reference)}
            for fields, of_points in found.values()
        ]
    return {
        "problem": problem,
        "entropy": gray.data_entropy(problem),
        "points": settings.test_points,
        "significance": planar.significance().tolist(),
        "mmd_points": settings.mmd_points,
        "mmd_floor": keep(
            "mmd-floor",
            settings.model_dump(include={"mmd_points", "mmd_repeats"}),
            lambda: (planar.floor(problem, settings.mmd_points, settings.mmd_repeats), {}),
        )[0],
        "runs": runs,
    }


def depends_on(settings, arm, seed):
    """What one arm of one seed depends on, JSON-able."""
    own = ARMS[arm]
    without = {"seeds", "arms", "mmd_repeats"}
    if not own.learned:
        without.add("backward_lr")
    if own.backward != "network":
        without.add("backward_hidden")
    if own.loss != "tbc":
        without.add("weight")
    if not own.soft:
        without.add("sharpness")
    if own.backward == "ordered":
        without.add("importance_samples")
    return {"arm": arm, "seed": seed, **settings.model_dump(mode="json", exclude=without)}


def train_and_measure(problem, arm, settings, seed):
    """One arm trained with one seed: (its fields in the metrics file, {quantity: [test_points]}).

    Test points and the noise behind the likelihood belong to the seed; the arms share them.
    """
    test, truth = planar.tested(problem, settings.test_points, seed)
    fresh = planar.draw(problem, settings.mmd_points, seed, "policy", "fresh")
    pair, spent = policy_training.fit(problem, arm, settings, seed)
    # With a fixed order there is one trajectory, and w is p(x) itself.
    count = 1 if ARMS[arm].backward == "ordered" else settings.importance_samples
    log_w = planar.log_weights(pair, test, count, generator(seed, "policy", problem, "importance"))
    samples = pair.sample_pf((settings.mmd_points, gray.BITS), generator(seed, "policy", problem, "sample"))[
        0
    ]
    order = planar.emptied_at(pair, test)
    half = importance_weighted(log_w[:, : max(1, count // 2)])
    fields = {
        "arm": arm,
        "seed": seed,
        "trajectories": count,
        **planar.likelihood_fields(problem, log_w, truth),
        "nll_half": gray.data_entropy(problem) + (truth - half).mean().item(),
        "mmd": planar.hamming_mmd(samples, fresh),
        "order": order,
        "rank_correlation": rank_correlation(order, planar.significance().tolist()),
        "evaluations": spent,
    }
    variance = log_w.var(1) if count > 1 else torch.zeros(len(log_w), dtype=log_w.dtype)
    values = (negative_log_p(log_w), -elbo(log_w), variance)
    return fields, dict(zip(QUANTITIES, values))


def negative_log_p(log_w):
    """[N, K] → [N], nats: − log of the mean of w, less its bias to first order in 1/K, Var[w]/(2K E[w]²), which differs
    between the arms as their variances do. One trajectory is all that there is, and has no bias."""
    log_p, count = importance_weighted(log_w), log_w.shape[1]
    bias = (log_w - log_p[:, None]).exp().var(1) / (2 * count) if count > 1 else 0.0
    return -log_p - bias


def differences(of_points, reference):
    """{quantity: {"value", "standard_error"}}: one run minus another on the same points, mean over points [N]. ``nll`` is
    less its expected bias (:func:`negative_log_p`)."""
    result = {}
    for name in QUANTITIES:
        change = of_points[name] - reference[name]
        error = change.std().item() / len(change) ** 0.5
        result[name] = {"value": change.mean().item(), "standard_error": error}
    return result


def rank_correlation(one, other):
    """Spearman's ρ of two lists of numbers, equal ones sharing their ranks; 0 where one of them is constant."""
    ranks = []
    for values in (one, other):
        values = torch.tensor(values, dtype=torch.float64)
        above, equal = values[:, None] > values, values[:, None] == values
        rank = above.sum(1).double() + (equal.sum(1) - 1).double() / 2
        ranks.append(rank - rank.mean())
    norm = (ranks[0].square().sum() * ranks[1].square().sum()).sqrt().item()
    return (ranks[0] * ranks[1]).sum().item() / norm if norm else 0.0
