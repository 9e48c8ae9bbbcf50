"""Stage ``signed``: one 2-D problem → the optimum of a DDPM's bound, and what λ of either sign and IWAE do from there.

In:  nothing but the settings: the data are drawn by mlegfn.data.planar
Out: results/<scale>/consistency/metrics/signed/<problem>.json
"""

import torch

from mlegfn.artifacts import write_json
from mlegfn.data.planar_density import entropy
from mlegfn.diffusion.importance import log_likelihood, precise_log_weights
from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.objectives.consistency import consistency
from reproduction.consistency.arms import REFERENCE, arms_of
from reproduction.consistency.experiment import (
    Problem,
    importance_weights,
    optimum,
    pretrain,
    pull,
    train_arm,
)

# What the checkpoint of a seed depends on, what the optimum of its bound does beside, and so on.
PRETRAINING = {"train_points", "hidden", "layers", "diffusion", "pretrain"}
ARMS = {"trajectories", "arms"}


def run(stage, problem):
    """Train and measure every seed and arm; a seed, an arm or a range of trajectories that is finished is kept."""
    torch.set_num_threads(1)
    metrics = measure(problem, stage.settings, stage.keep)
    for entry in metrics["runs"]:
        changes = entry["differences"]
        print(
            f"{problem} seed {entry['seed']} {entry['arm']:10s} NLL {entry['nll']:.4f} ± "
            f"{entry['nll_standard_error']:.4f} nats, Δ {changes['nll']['value']:+.5f}, "
            f"ΔVar {changes['log_w_variance']['value']:+.5f}, Δbound {changes['elbo_nll']['value']:+.5f}"
        )
    write_json(stage.path("metrics", "signed", f"{problem}.json"), {"scale": stage.scale, **metrics})


def measure(problem, settings, keep):
    """All seeds and arms on ``problem``: the contents of the metrics file without the scale.

    Of a seed, test points and the noise behind the likelihood are the same for all arms, and all runs have the same
    number of trajectories.

    :param settings: :class:`reproduction.consistency.settings.Consistency`
    :param keep: as :meth:`reproduction.stage.Stage.keep`
    """
    starts = {seed: _Start(problem, settings, seed, keep) for seed in settings.seeds}
    arms = arms_of(settings)
    runs = {(name, seed): _Run(start, arm) for seed, start in starts.items() for name, arm in arms.items()}
    log_w = precise_log_weights(
        {key: run.log_weights for key, run in runs.items()},
        settings.importance_samples,
        settings.importance_samples_cap,
        settings.precision,
    )
    return {
        "problem": problem,
        "entropy": entropy(problem),
        "trajectories": next(iter(log_w.values())).shape[1],
        "precision": settings.precision,
        "points": settings.test_points,
        "timesteps": settings.diffusion.timesteps,
        "optima": [
            {"seed": seed, "curve": start.curve, "pull": start.pulls} for seed, start in starts.items()
        ],
        "runs": [
            {
                "arm": name,
                "kind": arms[name].kind,
                "value": arms[name].value,
                "seed": seed,
                "state_evaluations": run.evaluations,
                **likelihood_fields(log_w[name, seed]),
                "differences": differences(log_w[name, seed], log_w[REFERENCE.name, seed]),
            }
            for (name, seed), run in runs.items()
        ],
    }


class _Start:
    """The optimum of the bound of one seed; it trains only what ``keep`` does not have.

    :ivar curve: the bound along training
    :ivar pulls: {"pretrained", "optimum": ``pull``}
    """

    def __init__(self, name, settings, seed, keep):
        self.problem, self.settings, self.keep = Problem.of(name, settings, seed), settings, keep
        self.depends_on = {"seed": seed, **settings.model_dump(mode="json", include=PRETRAINING)}
        value, before = keep(f"pretrain-{seed}", self.depends_on, self._pretrain)
        self.errors = value["errors"]
        self.depends_on |= settings.model_dump(mode="json", include={"bound"})
        value, self.tensors = keep(f"bound-{seed}", self.depends_on, lambda: self._optimum(before))
        self.curve = value["curve"]
        self.pulls = self._pulls(before)

    def _pretrain(self):
        tensors, errors = pretrain(self.problem, self.settings)
        return {"errors": errors}, tensors

    def _optimum(self, before):
        tensors, curve = optimum(self.problem, self.settings, before, self.errors)
        return {"curve": curve}, tensors

    def _pulls(self, before):
        own = {"trajectories", "alignment_batches"}
        depends_on = self.depends_on | self.settings.model_dump(mode="json", include=own)
        depends_on |= {"points": self.settings.arms.points}

        def compute():
            checkpoints = {"pretrained": before, "optimum": self.tensors}
            return {
                name: pull(self.problem, self.settings, tensors, self.errors)
                for name, tensors in checkpoints.items()
            }, {}

        return self.keep(f"pull-{self.problem.seed}", depends_on, compute)[0]


class _Run:
    """One arm of one seed, trained; it trains only what its start's ``keep`` does not have.

    :ivar evaluations: states that the network saw, all with a gradient
    """

    def __init__(self, start, arm):
        self.start, self.arm = start, arm
        self.name = f"{arm.name}-{start.problem.seed}"
        own = start.settings.model_dump(mode="json", include=ARMS)
        self.depends_on = {**start.depends_on, **own, "arm": [arm.kind, arm.value]}
        value, self.weights = start.keep(self.name, self.depends_on, self._train)
        self.evaluations = value["state_evaluations"]

    def _train(self):
        start = self.start
        weights, evaluations = train_arm(start.problem, start.settings, start.tensors, start.errors, self.arm)
        return {"state_evaluations": evaluations}, weights

    def log_weights(self, rounds):
        """log w [test_points, len(rounds)] of the test points, for ``rounds``, a range."""
        start = self.start

        def compute():
            log_w = importance_weights(start.problem, start.settings, self.weights, start.errors, rounds)
            return {}, {"log_w": log_w}

        depends_on = {
            **self.depends_on,
            "test_points": start.settings.test_points,
            "rounds": [rounds.start, rounds.stop],
        }
        name = f"{self.name}-log-weights-{rounds.start}-{rounds.stop}"
        return start.keep(name, depends_on, compute)[1]["log_w"]


def likelihood_fields(log_w):
    """A run's JSON fields from its log-weights [N, M] in the data's units, in nats."""
    measured = log_likelihood(log_w)
    return {
        "nll": measured.nll,
        "nll_standard_error": measured.standard_error,
        "nll_bias": measured.bias,
        "nll_half": measured.half,
        "elbo_nll": measured.elbo,
        "log_w_variance": measured.variance,
    }


def differences(log_w, reference):
    """{quantity: {"value", "standard_error"}}: one run minus another on the same points and noise, mean over points.

    log_w, reference [N, M]; nats, and powers of them for cumulants. The standard error is that of the finite number of
    points, each with its own trajectories. ``nll`` is less its expected bias, which grows with the variance and would be
    a part of what is compared.
    """
    result = {}
    for name, function in OF_POINTS.items():
        change = function(log_w.double()) - function(reference.double())
        error = change.std().item() / len(change) ** 0.5
        result[name] = {"value": change.mean().item(), "standard_error": error}
    return result


def negative_log_p(log_w):
    """[N, M] → [N], nats: − log of the mean of w, less its bias to first order in 1/M, Var[w]/(2M E[w]²)."""
    log_p = importance_weighted(log_w)
    return -log_p - (log_w - log_p[:, None]).exp().var(1) / (2 * log_w.shape[1])


def third_cumulant(log_w):
    """[N, M] → [N], nats³: unbiased κ₃ of log w, M ≥ 3; log p = κ₁ + κ₂/2 + κ₃/6 + …"""
    M = log_w.shape[1]
    return (log_w - log_w.mean(1, keepdim=True)).pow(3).sum(1) * (M / ((M - 1) * (M - 2)))


# What is compared at each test point, of its log-weights.
OF_POINTS = {
    "nll": negative_log_p,
    "elbo_nll": lambda log_w: -elbo(log_w),
    "log_w_variance": consistency,
    "log_w_third_cumulant": third_cumulant,
}
