"""Training on one planar problem with one seed: a DDPM, the optimum of its bound, and the arms that leave it."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import torch

from mlegfn.data import planar
from mlegfn.data.units import Units
from mlegfn.diffusion.importance import log_weights
from mlegfn.diffusion.likelihood import epsilon_errors
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.networks.mlp import TimeMLP
from mlegfn.objectives.bounds import elbo
from mlegfn.objectives.second_order import group_loss, signed_loss
from mlegfn.randomness import generator, seed_layers
from mlegfn.training.checkpoint import log_variance_of, process_of
from mlegfn.training.joint import alignment, joint_gradient
from mlegfn.training.loop import train
from mlegfn.training.pretraining import pretrain_gradient
from mlegfn.training.state import new_state

__all__ = ["Problem", "importance_weights", "loss_of", "optimum", "pretrain", "pull", "train_arm"]

WINDOWS = 8  # of each learning rate in the record of the bound's training


@dataclass(frozen=True)
class Problem:
    """What a problem's seed is trained and tested on.

    points [train_points, 2]: in the model's units. test [test_points, 2]: in the data's. Both are draws of the seed, so
    that an interval over seeds covers the chance of the points too.
    """

    name: str
    seed: int
    points: torch.Tensor
    test: torch.Tensor
    units: Units

    @classmethod
    def of(cls, name, settings, seed):
        train_points, test = (
            planar.sample(name, count, generator(seed, "consistency", name, use))
            for use, count in (("train", settings.train_points), ("test", settings.test_points))
        )
        units = Units.of(train_points)
        return cls(name, seed, units.to_model(train_points), test, units)

    def key(self, use):
        """The name of a draw, apart from its seed."""
        return "consistency", self.name, use


def new_network(settings):
    """A ``TimeMLP`` with torch's initial weights."""
    outputs = 2 if settings.diffusion.variance == "learned" else 1
    return TimeMLP(settings.diffusion.timesteps, settings.hidden, settings.layers, outputs)


def model_of(network, settings, errors=None):
    """P_F of a network over the fixed noising; ``errors`` [T] give the analytic variances, 1 without them.

    Points are continuous, so log w bounds a log-density.
    """
    process = process_of(settings.diffusion)
    errors = [1.0] * process.timesteps if errors is None else errors
    return DenoisingModel(network, process, log_variance_of(process, settings.diffusion.variance, errors))


def averaged(settings, tensors, errors):
    """The model of the averaged weights of a training state's ``tensors``, in eval mode."""
    network = new_network(settings).eval()
    state = new_state(network, settings.pretrain.optimizer)
    state.load(tensors)
    network.load_state_dict(state.ema_weights())
    return model_of(network, settings, errors)


def pretrain(problem, settings):
    """A DDPM trained by L_simple: (its training state's tensors, errors [T] of the averaged network)."""
    own = settings.pretrain
    with torch.random.fork_rng([]):
        seed_layers(problem.seed, "consistency", "init")
        network = new_network(settings)
    state = new_state(network, own.optimizer)
    accumulate = pretrain_gradient(
        model_of(network, settings),
        problem.points,
        SimpleNamespace(seed=problem.seed, batch=own.batch),
        flip=False,
    )
    description = f"{problem.name} {problem.seed}: pretrain"
    train(state, accumulate, own.optimizer, own.steps, description=description)
    tensors = state.tensors()
    model = averaged(settings, tensors, None)
    errors = epsilon_errors(model, problem.points[: settings.diffusion.variance_samples], batch=8192)
    return tensors, errors.mean(1).tolist()


def optimum(problem, settings, tensors, errors):
    """Train a checkpoint on the bound, with learning rates that fall: (tensors, the bound along training).

    The record's entries are means over a part of the steps of one rate, in nats and in the data's units.
    """
    own = settings.bound
    state, model = _resumed(settings, own, tensors, errors)
    accumulate = joint_gradient(
        model,
        problem.points,
        _bound_alone,
        own.trajectories,
        own.points,
        problem.seed,
        problem.key("bound"),
    )
    curve, entries = [], []
    ends = sorted({round(own.steps * (k + 1) / WINDOWS) for k in range(WINDOWS)} - {0})
    for number, rate in enumerate(own.rates):
        train(
            state,
            accumulate,
            SimpleNamespace(lr=rate, warmup=own.warmup, clip=own.clip, ema_decay=own.ema_decay),
            own.steps * (number + 1),
            after_step=lambda _, entry: entries.append(entry),
            description=f"{problem.name} {problem.seed}: bound at {rate:g}",
        )
        for start, end in pairwise([0, *ends]):
            window = torch.tensor([entry["bound"] for entry in entries[start:end]], dtype=torch.float64)
            error = window.std().item() / len(window) ** 0.5 if len(window) > 1 else None
            curve.append(
                {
                    "step": entries[end - 1]["step"],
                    "lr": rate,
                    "elbo_nll": window.mean().item() - problem.units.log_jacobian,
                    "standard_error": error,
                }
            )
        entries.clear()
    return state.tensors(), curve


def train_arm(problem, settings, tensors, errors, arm):
    """Train the optimum of the bound on in one ``Arm``: (weights of the averaged network, state evaluations).

    The key of every draw names problem and seed and not the arm: all see the same points and noise. Adam begins with
    fresh moments.
    """
    own = settings.arms
    state, model = _resumed(settings, own, tensors, errors)
    accumulate = joint_gradient(
        model,
        problem.points,
        loss_of(arm),
        settings.trajectories,
        own.points,
        problem.seed,
        problem.key("arms"),
    )
    description = f"{problem.name} {problem.seed}: {arm.name}"
    train(state, accumulate, own, own.steps, description=description)
    evaluations = own.steps * own.points * settings.trajectories * settings.diffusion.timesteps
    return state.ema_weights(), evaluations


def loss_of(arm):
    """log w [B, M] → [B], nats, of an ``Arm``."""
    if arm.kind == "iwae":
        return partial(group_loss, size=arm.value)
    return partial(signed_loss, weight=arm.value)


def pull(problem, settings, tensors, errors):
    """How bound and variance pull at the averaged weights of a checkpoint, on training points
    (:func:`mlegfn.training.joint.alignment`)."""
    model = averaged(settings, tensors, errors)
    return alignment(
        model,
        list(model.network.parameters()),
        problem.points,
        settings.trajectories,
        settings.arms.points,
        settings.alignment_batches,
        problem.seed,
        problem.key("alignment"),
    )


def importance_weights(problem, settings, weights, errors, rounds):
    """log w [test_points, len(rounds)], float64: of the test points, as a density in the data's units."""
    network = new_network(settings).eval()
    network.load_state_dict(weights)
    inside = problem.units.to_model(problem.test)
    log_w = log_weights(
        model_of(network, settings, errors), inside, rounds, (problem.seed, *problem.key("importance"))
    )
    return log_w + problem.units.log_jacobian


def _resumed(settings, optimizer, tensors, errors):
    """(a training state with the checkpoint's weights and average and fresh moments, the model of its network)."""
    network = new_network(settings)
    state = new_state(
        network, SimpleNamespace(lr=1.0, ema_decay=optimizer.ema_decay)
    )  # `train` sets the rate
    state.load(tensors)
    state.begin_again()
    return state, model_of(network, settings, errors)


def _bound_alone(log_w):
    """log w [B, M] → [B], nats: − mean log w, of one trajectory too, which has no variance."""
    return -elbo(log_w)
