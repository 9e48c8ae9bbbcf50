"""Stage ``noising``: one problem → rates of noising learned by the bound and by TBC on P_B alone, beside fixed ones.

In:  nothing but the settings: points are drawn by mlegfn.data.planar, digits are scikit-learn's
Out: results/<scale>/consistency/metrics/noising/<problem>.json
"""

from functools import partial
from pathlib import Path

import torch

from mlegfn.artifacts import write_json
from mlegfn.diffusion.importance import log_likelihood
from mlegfn.diffusion.learned_noising import log_noising, log_prior
from mlegfn.objectives.bounds import elbo
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import batch_indices, generator
from mlegfn.training.joint import mean_product
from reproduction.consistency import noising_training as training
from reproduction.consistency.noising_arms import REFERENCE
from reproduction.consistency.policy import negative_log_p

LEARNED = ("pathwise", "score", "tbc")
QUANTITIES = {
    "nll": negative_log_p,
    "elbo_nll": lambda log_w: -elbo(log_w),
    "log_w_variance": consistency,
}


def run(stage, problem):
    """Train and measure every seed and arm; one that is finished is kept."""
    torch.set_num_threads(1)
    keep = partial(stage.keep, folder=Path("noising", problem))
    metrics = measure(problem, stage.settings.noising, keep)
    for entry in metrics["runs"]:
        changes = entry["differences"]
        print(
            f"{problem} seed {entry['seed']} {entry['arm']:8s} bound {entry['elbo_nll']:.4f} nats, "
            f"Δ {changes['elbo_nll']['value']:+.4f}, ΔNLL {changes['nll']['value']:+.4f}"
        )
    write_json(stage.path("metrics", "noising", f"{problem}.json"), {"scale": stage.scale, **metrics})


def measure(problem, settings, keep):
    """All seeds and arms on ``problem``: the contents of the metrics file without the scale.

    :param settings: :class:`reproduction.consistency.noising_settings.Noising`
    :param keep: as :meth:`reproduction.stage.Stage.keep`
    """
    runs, noise = [], []
    own = settings.of(problem).model_dump(mode="json")
    shared = {"diffusion": settings.diffusion.model_dump(mode="json"), "train_points": settings.train_points}
    of_start = {
        key: own[key]
        for key in ("hidden", "batch", "trajectories", "pretrain_steps", "lr", "clip", "test_points")
    }
    for seed in settings.seeds:
        start = {"seed": seed, **shared, **of_start}
        _, tensors = keep(f"pretrain-{seed}", start, partial(pretrained, problem, settings, seed))
        noise.append(
            keep(
                f"gradients-{seed}",
                start | {"gradient_batches": own["gradient_batches"]},
                partial(gradient_noise, problem, settings, seed, tensors),
            )[0]
        )
        fields, log_w = {}, {}
        for arm in settings.arms:
            depends_on = {"arm": arm, "seed": seed, **shared, **own}
            if arm == REFERENCE:
                del depends_on["backward_lr"]
            del depends_on["gradient_batches"]
            fields[arm], kept = keep(
                f"{arm}-{seed}", depends_on, partial(trained, problem, settings, seed, arm, tensors)
            )
            log_w[arm] = kept["log_w"]
        runs += [
            {**fields[arm], "differences": differences(log_w[arm], log_w[REFERENCE])} for arm in settings.arms
        ]
    return {
        "problem": problem,
        "points": settings.of(problem).test_points,
        "timesteps": settings.diffusion.timesteps,
        "gradients": noise,
        "runs": runs,
    }


def pretrained(problem, settings, seed):
    """P_F trained by the bound with the fixed rates: ({}, its tensors)."""
    own, pair = settings.of(problem), training.new_pair(problem, settings, seed)
    data, _, _ = training.data_of(problem, settings, seed)
    training.fit(pair, data, own, REFERENCE, seed, ("pretrain", problem), own.pretrain_steps)
    return {}, pair.state_dict()


def trained(problem, settings, seed, arm, tensors):
    """One arm from there: (its fields in the metrics file, {"log_w": [test_points, K]})."""
    own, pair = settings.of(problem), training.new_pair(problem, settings, seed)
    pair.load_state_dict(tensors)
    data, test, log_jacobian = training.data_of(problem, settings, seed)
    training.fit(pair, data, own, arm, seed, ("arms", problem), own.steps)
    log_w = log_weights(pair, test, own.importance_samples, seed, problem) + log_jacobian
    measured = log_likelihood(log_w)
    fields = {
        "arm": arm,
        "seed": seed,
        "nll": measured.nll,
        "nll_standard_error": measured.standard_error,
        "nll_half": measured.half,
        "elbo_nll": measured.elbo,
        "log_w_variance": measured.variance,
        "log_snr": pair.schedule.log_snr().flatten(1).tolist(),
        "state_evaluations": own.steps * own.batch * own.trajectories * settings.diffusion.timesteps,
    }
    return fields, {"log_w": log_w}


@torch.no_grad()
def log_weights(pair, test, count, seed, problem):
    """[N, K] float64, nats: log w of K joint trajectories of each test point; the noise belongs to the seed."""
    columns = []
    for number in range(count):
        draw = generator(seed, "noising", problem, "importance", number)
        path, rates = training.trajectories(pair, test, 1, draw)
        terms = pair.reverse.log_prob(path).double() - log_noising(path, rates).double()
        columns.append(log_prior(path).double() + terms.sum(0))
    return torch.stack(columns, 1)


def gradient_noise(problem, settings, seed, tensors):
    """({estimator: {"mean_square", "trace"}} of the gradient in the rates before the arms part, {}).

    ``mean_square``: the unbiased squared length of its mean; ``trace``: of the covariance of one batch's estimate. All
    estimators see the same batches; ``cosine``: of the mean with that of ``pathwise``, by products of different batches.
    """
    own, pair = settings.of(problem), training.new_pair(problem, settings, seed)
    pair.load_state_dict(tensors)
    data, _, _ = training.data_of(problem, settings, seed)
    parameters, rows = list(pair.schedule.parameters()), {arm: [] for arm in LEARNED}
    for number in range(own.gradient_batches):
        chosen = batch_indices(seed, f"noising/gradients/{problem}", number, own.batch, len(data))
        for arm in LEARNED:
            draw = generator(seed, "noising", "gradients", problem, number)
            bound, backward = training.forward_and_backward(pair, data[chosen], own.trajectories, draw, arm)
            of_arm = torch.autograd.grad(bound if arm == "pathwise" else backward, parameters)
            rows[arm].append(torch.cat([part.flatten() for part in of_arm]).double())
    tables = {arm: torch.stack(estimates) for arm, estimates in rows.items()}
    return {
        arm: {
            "mean_square": mean_product(table, table),
            "with_pathwise": mean_product(table, tables["pathwise"]),
            "trace": float(table.var(0).sum()),
        }
        for arm, table in tables.items()
    }, {}


def differences(log_w, reference):
    """{quantity: {"value", "standard_error"}}: one run minus another on the same points and noise, mean over points; nats.

    ``nll`` is less its expected bias (:func:`reproduction.consistency.policy.negative_log_p`).
    """
    result = {}
    for name, function in QUANTITIES.items():
        change = function(log_w) - function(reference)
        result[name] = {
            "value": change.mean().item(),
            "standard_error": change.std().item() / len(change) ** 0.5,
        }
    return result
