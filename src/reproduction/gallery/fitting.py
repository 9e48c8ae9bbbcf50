"""How stations train: the engine's loop, its Adam and its averaged weights, around a loss of their own."""

import copy

import torch

from mlegfn.randomness import seed_layers
from mlegfn.training.loop import train
from mlegfn.training.state import new_state

__all__ = ["fit", "initialised", "weights", "with_weights"]


def initialised(build, seed, *key):
    """``build()`` with initial weights that are a function of (seed, *key)."""
    with torch.random.fork_rng([]):
        seed_layers(seed, *key, "init")
        return build()


def fit(network, loss, steps, optimizer, description, log=None):
    """Train ``network`` in place for ``steps`` steps; returns a copy with the averaged weights, in eval mode.

    loss(step) → scalar tensor: draws its own data, as a function of (its seed, step) alone.
    optimizer: settings.training.Optimizer; ``log``: a list that gets an entry {"step", "loss", "grad_norm"} a step.
    Raises FloatingPointError where a gradient is not finite.
    """

    def accumulate(step):
        seed_layers(0, "gallery", description, step)  # dropout draws from torch's global generator
        value = loss(step)
        value.backward()
        return {"loss": value.detach()}

    state = new_state(network, optimizer)
    after = None if log is None else (lambda _, entry: log.append(entry))
    train(state, accumulate, optimizer, steps, after_step=after, description=description)
    averaged = copy.deepcopy(network)
    averaged.load_state_dict(state.ema_weights())
    return averaged.requires_grad_(False).eval()


def weights(network, prefix):
    """{prefix.name: tensor}: a network's weights for ``Result.tensors``."""
    return {f"{prefix}.{name}": value.detach().contiguous() for name, value in network.state_dict().items()}


def with_weights(network, tensors, prefix):
    """``network`` with the weights that ``weights`` named so, in eval mode; ValueError if they are another's."""
    own = {
        name.removeprefix(f"{prefix}."): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}.")
    }
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(
            f"{prefix}: the weights of another network ({str(error).splitlines()[-1].strip()})"
        ) from None
    return network.requires_grad_(False).eval()
