"""Training on one planar problem with one seed: a DDPM, and its fine-tuning in arms that differ in their loss alone."""

from dataclasses import dataclass
from types import SimpleNamespace

import torch

from mlegfn.data import planar
from mlegfn.data.units import Units
from mlegfn.diffusion.importance import log_likelihood, log_weights
from mlegfn.diffusion.likelihood import epsilon_errors
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.networks.mlp import TimeMLP
from mlegfn.randomness import generator, seed_layers
from mlegfn.training.checkpoint import log_variance_of, process_of
from mlegfn.training.finetuning import finetune_gradient
from mlegfn.training.loop import train
from mlegfn.training.pretraining import pretrain_gradient
from mlegfn.training.state import new_state

__all__ = [
    "MODEL",
    "Pretrained",
    "Units",
    "draw",
    "finetune",
    "generate",
    "importance_weights",
    "likelihood_fields",
    "pretrain",
    "restored_model",
    "training_data",
]

# What the arms are called in metrics, figures and tables.
MODEL = {"simple": "ddpm", "vlb": "vlb", "vlb_tbc": "mle_gfn"}


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint in memory: its training state, the data it saw and the units it saw them in.

    errors [T]: E‖ε − ε_θ‖²/d of the averaged network, for the analytic variances.
    """

    seed: int
    tensors: dict
    points: torch.Tensor
    units: Units
    errors: list


def new_network(settings):
    """The network of ``settings`` (planar.settings.Planar), with torch's initial weights."""
    outputs = 2 if settings.diffusion.variance == "learned" else 1
    return TimeMLP(settings.diffusion.timesteps, settings.hidden, settings.layers, outputs=outputs)


def model_of(network, settings, errors=None):
    """P_F of a network; without ``errors`` the analytic variances are those of errors of 1, for what
    reads ε_θ alone. levels = None: points are continuous, log w bounds a log-density."""
    process = process_of(settings.diffusion)
    errors = [1.0] * process.timesteps if errors is None else errors
    return DenoisingModel(network, process, log_variance_of(process, settings.diffusion.variance, errors))


def averaged_model(state, settings, points):
    """The model of the averaged weights, in eval mode, and its errors on the first training ``points``."""
    network = new_network(settings).eval()
    network.load_state_dict(state.ema_weights())
    errors = epsilon_errors(
        model_of(network, settings), points[: settings.diffusion.variance_samples], batch=8192
    ).mean(1)
    return model_of(network, settings, errors.tolist()), errors.tolist()


def restored_model(settings, weights, log_variance):
    """P_F of a network's ``state_dict`` and the log-variances [T+1] of its reverse steps (None: learned)."""
    network = new_network(settings).eval()
    network.load_state_dict(weights)
    return DenoisingModel(network, process_of(settings.diffusion), log_variance)


def training_data(problem, settings, seed):
    """(points [train_points, 2] in the model's units, those ``Units``) of one seed."""
    data = planar.sample(problem, settings.train_points, generator(seed, "planar", problem, "train"))
    units = Units.of(data)
    return units.to_model(data), units


def pretrain(problem, settings, seed):
    """A DDPM of ``problem`` trained by L_simple, as ``Pretrained``."""
    points, units = training_data(problem, settings, seed)
    with torch.random.fork_rng([]):
        seed_layers(seed, "planar", "init")
        network = new_network(settings)
    state = new_state(network, settings.optimizer)
    accumulate = pretrain_gradient(
        model_of(network, settings), points, SimpleNamespace(seed=seed, batch=settings.batch), flip=False
    )
    train(
        state,
        accumulate,
        settings.optimizer,
        settings.pretrain_steps,
        description=f"{problem} {seed}: pretrain",
    )
    _, errors = averaged_model(state, settings, points)
    return Pretrained(seed, state.tensors(), points, units, errors)


def finetune(problem, settings, start, arm):
    """Train ``start`` on in one arm: (averaged model, network evaluations spent, log).

    The key of every draw names problem and seed and not the arm, so all arms see the same points, times and noise. Adam
    begins with fresh moments; the average of weights goes on from the checkpoint's.
    """
    network = new_network(settings)
    state = new_state(network, settings.finetune_optimizer)
    state.load(start.tensors)
    state.begin_again()
    objective = finetune_gradient(
        model_of(network, settings, start.errors),
        start.points,
        settings,
        arm,
        ("planar", problem),
        start.seed,
        flip=False,
        errors=start.errors,
        kind=settings.diffusion.variance,
    )
    logs = []
    train(
        state,
        objective.accumulate,
        settings.finetune_optimizer,
        settings.finetune_steps,
        after_step=lambda _, entry: logs.append(entry),
        description=f"{problem} {start.seed}: {arm}",
    )
    model, _ = averaged_model(state, settings, start.points)
    return model, objective.evaluations, logs


def generate(problem, model, units, count, seed):
    """[count, 2] samples in the data's units; the noise is the same for every arm."""
    states = model.sample_pf((count, 2), generator(seed, "planar", problem, "sample"), keep=[0])
    return units.to_data(states[0])


def likelihood_fields(log_w):
    """A run's JSON fields from its log-weights [N, M] in the data's units."""
    measured = log_likelihood(log_w)
    return {
        "trajectories": measured.trajectories,
        "nll": measured.nll,
        "nll_standard_error": measured.standard_error,
        "nll_bias": measured.bias,
        "nll_points_standard_error": measured.points_error,
        "nll_half": measured.half,
        "elbo_nll": measured.elbo,
        "log_w_variance": measured.variance,
    }


def draw(problem, count, *key):
    """[count, 2] points of ``problem`` in the data's units, the same for every seed and arm; ``key`` names the draw."""
    return planar.sample(problem, count, generator(0, "planar", problem, *key))


def importance_weights(problem, points, model, units, rounds):
    """log w [N, len(rounds)], float64: of ``points`` [N, 2], as a density in the data's units."""
    inside = units.to_model(points)
    return log_weights(model, inside, rounds, (0, "planar", problem, "importance")) + units.log_jacobian
