"""Stage ``planar``: one 2-D problem → a DDPM and its fine-tuned arms, their NLL, MMD and samples.

In:  nothing but the settings: the data are drawn by mlegfn.data.planar
Out: results/<scale>/planar/metrics/<problem>.json, results/<scale>/planar/samples/<problem>.safetensors
"""

import torch

from mlegfn.artifacts import write_bytes, write_json
from mlegfn.data.mmd import BANDWIDTHS, mmd2_unbiased, mmd_floor
from mlegfn.data.planar_density import entropy
from mlegfn.diffusion.importance import precise_log_weights
from reproduction.planar.experiment import (
    MODEL,
    Pretrained,
    draw,
    finetune,
    generate,
    importance_weights,
    likelihood_fields,
    pretrain,
    restored_model,
    training_data,
)

# What the checkpoint of a seed depends on, and what its fine-tuning depends on beside.
PRETRAINING = {"train_points", "hidden", "layers", "diffusion", "pretrain_steps", "batch", "optimizer"}
FINETUNING = {"finetune_steps", "finetune_optimizer", "consistency", "sample_points", "mmd_points"}
# Every arm spends the evaluations of the consistency term; only the arm `vlb_tbc` depends on what is made of them.
TBC_ALONE = {"weight", "weight_warmup", "policy", "loss", "huber_delta", "per_dimension"}


def run(stage, problem):
    """Train and measure every seed and arm; a seed, an arm or a range of trajectories that is finished is kept."""
    from safetensors.torch import save

    torch.set_num_threads(1)
    metrics, samples = measure(problem, stage.settings, stage.keep)
    for entry in metrics["runs"]:
        print(
            f"{problem} seed {entry['seed']} {entry['model']:8s} NLL {entry['nll']:.4f} ± "
            f"{entry['nll_standard_error']:.4f} nats (ELBO {entry['elbo_nll']:.4f}), MMD² {entry['mmd']:.2e}"
        )
    tensors = {name: points.float().contiguous() for name, points in samples.items()}
    write_bytes(stage.path("samples", f"{problem}.safetensors"), save(tensors))
    write_json(stage.path("metrics", f"{problem}.json"), {"scale": stage.scale, **metrics})


def measure(problem, settings, keep):
    """All seeds and arms on ``problem``: (metrics, samples of the first seed).

    Test points, fresh points and the noise behind the likelihood are the same for all seeds and arms, and all have
    the same number of trajectories.

    :param settings: :class:`reproduction.planar.settings.Planar`
    :param keep: as :meth:`reproduction.stage.Stage.keep`
    :returns: the contents of the metrics file without the scale; {"data", "ddpm", "mle_gfn", …}: [sample_points, 2]
        in the data's units
    """
    starts = {seed: _checkpoint(problem, settings, seed, keep) for seed in settings.seeds}
    models = {
        (arm, seed): _Model(problem, settings, arm, start, keep)
        for seed, start in starts.items()
        for arm in settings.arms
    }
    log_w = precise_log_weights(
        {run: model.log_weights for run, model in models.items()},
        settings.importance_samples,
        settings.importance_samples_cap,
        settings.precision,
    )
    runs = [
        {"model": MODEL[arm], "seed": seed, **likelihood_fields(log_w[arm, seed]), **model.measured}
        for (arm, seed), model in models.items()
    ]
    samples = {MODEL[arm]: models[arm, settings.seeds[0]].samples for arm in settings.arms}
    return {
        "problem": problem,
        "entropy": entropy(problem),
        "trajectories": runs[0]["trajectories"],
        "precision": settings.precision,
        "points": settings.test_points,
        "timesteps": settings.diffusion.timesteps,
        "runs": runs,
        "mmd_floor": _floor(problem, settings, keep),
        "mmd_kernel": "unbiased MMD², mean of Gaussian kernels of σ = " + ", ".join(map(str, BANDWIDTHS)),
    }, {"data": draw(problem, settings.sample_points, "fresh"), **samples}


class _Model:
    """One arm of one seed, trained; it trains and draws only what ``keep`` does not have.

    :ivar measured: the fields "mmd" and "network_evaluations" of its run
    :ivar samples: [sample_points, 2] in the data's units
    """

    def __init__(self, problem, settings, arm, start, keep):
        self.problem, self.settings, self.arm, self.start, self.keep = problem, settings, arm, start, keep
        self.depends_on = arm_settings(settings, arm, start.seed)
        self.measured, tensors = keep(f"{arm}-{start.seed}", self.depends_on, self._train)
        self.samples, self.log_variance = tensors["samples"], tensors.get("log_variance")
        prefix = "network."
        self.weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    def _train(self):
        model, evaluations, _ = finetune(self.problem, self.settings, self.start, self.arm)
        count = self.settings.mmd_points
        samples = generate(
            self.problem, model, self.start.units, self.settings.sample_points, self.start.seed
        )
        fresh = draw(self.problem, self.settings.sample_points, "fresh")
        tensors = {f"network.{name}": tensor for name, tensor in model.network.state_dict().items()}
        if model.log_variance is not None:
            tensors["log_variance"] = model.log_variance
        return {
            "mmd": mmd2_unbiased(samples[:count], fresh[:count]),
            "network_evaluations": vars(evaluations),
        }, {**tensors, "samples": samples}

    def log_weights(self, rounds):
        """log w [test_points, len(rounds)] of the test points, for ``rounds``, a range."""

        def compute():
            model = restored_model(self.settings, self.weights, self.log_variance)
            test = draw(self.problem, self.settings.test_points, "test")
            return {}, {"log_w": importance_weights(self.problem, test, model, self.start.units, rounds)}

        name = f"{self.arm}-{self.start.seed}-log-weights-{rounds.start}-{rounds.stop}"
        depends_on = {
            **self.depends_on,
            "test_points": self.settings.test_points,
            "rounds": [rounds.start, rounds.stop],
        }
        return self.keep(name, depends_on, compute)[1]["log_w"]


def seed_settings(settings, seed):
    """What the checkpoint of ``seed`` depends on, JSON-able."""
    return {"seed": seed, **settings.model_dump(mode="json", include=PRETRAINING)}


def arm_settings(settings, arm, seed):
    """What one arm of one seed depends on, JSON-able."""
    own = settings.model_dump(mode="json", include=FINETUNING)
    if arm != "vlb_tbc":
        own["consistency"] = {k: v for k, v in own["consistency"].items() if k not in TBC_ALONE}
    return {"arm": arm, **seed_settings(settings, seed), **own}


def _checkpoint(problem, settings, seed, keep):
    """The ``Pretrained`` of one seed."""

    def compute():
        start = pretrain(problem, settings, seed)
        return {"errors": start.errors}, start.tensors

    value, tensors = keep(f"pretrain-{seed}", seed_settings(settings, seed), compute)
    return Pretrained(seed, tensors, *training_data(problem, settings, seed), value["errors"])


def _floor(problem, settings, keep):
    """What the MMD² between data and data is."""

    def compute():
        floor = mmd_floor(
            lambda n, k: draw(problem, n, "floor", k), settings.mmd_points, settings.mmd_repeats
        )
        return floor, {}

    return keep("mmd-floor", settings.model_dump(include={"mmd_points", "mmd_repeats"}), compute)[0]
