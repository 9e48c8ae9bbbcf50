"""Fine-tuning arms that differ in their loss alone: equal images, noise, steps and network evaluations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch

from mlegfn.randomness import batch_indices, generator, onto, seed_layers
from mlegfn.training import distributed
from mlegfn.training.chains import Chain, ChainSettings, chain_model, sample_chain
from mlegfn.training.checkpoint import log_variance_of
from mlegfn.training.mle_gfn import (
    AnchorBatch,
    ConsistencySettings,
    Evaluations,
    chain_backward,
    mle_gfn_backward,
)
from mlegfn.training.pretraining import anchor_batch, flipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from mlegfn.data.resident import Resident
    from mlegfn.diffusion.model import DenoisingModel
    from mlegfn.training.loop import Entry

__all__ = [
    "ARMS",
    "FinetuneSettings",
    "Objective",
    "arm_loss",
    "bound_weight",
    "extra_states",
    "finetune_gradient",
]

# The likelihood term of each arm, and the term of its chains.
ARMS: dict[str, tuple[str, str | None]] = {
    "simple": ("simple", None),  # L_simple trained on (L_hybrid with learned variances)
    "simple_tbc": ("simple", "consistency"),  # the paper's (arXiv 2209.02606, Figure 1)
    "reweighted": ("simple", "bound"),  # the control of a gradient as long as the consistency term's
    "vlb": ("vlb", None),
    "vlb_tbc": ("vlb", "consistency"),
}
LENGTH_CHAINS = 16  # batches of chains from which μ of `reweighted` is set


class Consistency(ChainSettings, ConsistencySettings, Protocol):
    """The consistency term: its chains and its loss."""

    @property
    def images(self) -> int:
        """Images a step whose trajectories are drawn."""

    @property
    def weight(self) -> float:
        """λ."""

    @property
    def weight_warmup(self) -> int:
        """Steps over which λ rises linearly from 0."""


class FinetuneSettings(Protocol):
    """What training one arm reads."""

    @property
    def batch(self) -> int: ...

    @property
    def consistency(self) -> Consistency: ...


@dataclass
class Objective:
    """One arm's loss: ``accumulate(step)`` leaves its gradient in the parameters, for ``training.loop.train``.

    ``evaluations`` counts what it has spent; ``weight`` is λ of the chain's term, μ for ``reweighted``, 0 without.
    """

    accumulate: Callable[[int], Entry]
    evaluations: Evaluations
    weight: float


def arm_loss(arm: str) -> tuple[str, str | None]:
    """(likelihood term, term of the chains or None) of an arm; ValueError for no arm."""
    if arm not in ARMS:
        raise ValueError(f"no arm {arm!r}; there are {', '.join(ARMS)}")
    return ARMS[arm]


def extra_states(arm: str, consistency: Consistency, timesteps: int) -> int:
    """How many further independent states an arm evaluates so that all arms spend as much as the consistency term.

    An arm without a chain has all of the chain's rows, and those of its first pass, for its likelihood term, which is
    in its favour; ``reweighted`` needs no first pass.
    """
    steps = timesteps if consistency.chain == "full" else consistency.chain_steps
    width = consistency.images * consistency.trajectories
    subsampled = consistency.gradient == "subsampled"
    second = (min(consistency.gradient_steps, steps) if subsampled else steps) * width
    first = 0 if not subsampled and steps * width <= consistency.chunk else steps * width
    return {None: first + second, "bound": first, "consistency": 0}[arm_loss(arm)[1]]


def finetune_gradient(
    model: DenoisingModel,
    images: Tensor | Resident,
    settings: FinetuneSettings,
    arm: str,
    key: Sequence[object],
    seed: int,
    flip: bool,
    errors: Tensor | Sequence[float] | None = None,
    kind: str | None = None,
    parameters: Sequence[torch.nn.Parameter] = (),
) -> Objective:
    """The ``Objective`` of one arm.

    images: as in ``pretraining.anchor_batch``; settings: an object with ``batch`` and ``consistency`` (the chains and
    the loss of the consistency term); ``key`` names the experiment (the arm is not in it: all arms draw the same);
    errors and kind: as in ``checkpoint.log_variance_of``, for the variances of a respaced chain.

    ``reweighted`` needs the network's ``parameters``, whose present values decide μ (:func:`bound_weight`): call it before
    training. ValueError without them.
    """
    tbc, (likelihood, term) = settings.consistency, arm_loss(arm)
    evaluations = Evaluations()
    # A respaced chain comes with its kind; no other one asks for it.
    on_chain = chain_model(model, tbc, lambda process: log_variance_of(process, cast("str", kind), errors))
    extra = extra_states(arm, tbc, model.timesteps)

    def chain_of(step: int, *more: object) -> tuple[Chain, torch.Generator]:
        rows = batch_indices(seed, "/".join(map(str, ("chain", *key, *more))), step, tbc.images, len(images))
        x0 = images[onto(images.device, rows)]
        draw = generator(seed, "chain", *key, *more, step)
        if flip:
            x0 = flipped(x0, draw)
        return sample_chain(on_chain, x0, tbc, draw), draw

    full_weight = tbc.weight if term else 0.0
    if term == "bound" and full_weight:
        lengths = (chain_of(number, "length") for number in range(LENGTH_CHAINS))
        full_weight *= bound_weight(parameters, tbc, lengths)

    def accumulate(step: int) -> Entry:
        anchor = anchor_batch(model.process, images, seed, ("finetune", *key), step, settings.batch, flip)
        if extra:
            more = anchor_batch(model.process, images, seed, ("finetune", *key, "extra"), step, extra, flip)
            anchor = joined(anchor, more)
        weight = full_weight * (min(1.0, (step + 1) / tbc.weight_warmup) if tbc.weight_warmup else 1.0)
        chain, draw = chain_of(step) if term else (None, None)
        seed_layers(seed, "finetune", *key, step, *distributed.layer_key())
        logs = mle_gfn_backward(
            model, anchor, chain, tbc, weight, likelihood, evaluations, draw, term or "consistency"
        )
        return {"step": step + 1, **logs}

    return Objective(accumulate, evaluations, full_weight)


def bound_weight(
    parameters: Sequence[torch.nn.Parameter],
    consistency: Consistency,
    chains: Iterable[tuple[Chain, torch.Generator | None]],
) -> float:
    """μ/λ for which μ·∇(−mean log w) is as long as λ·∇Var[log w]: the ratio of their root mean square norms on chains.

    The parameters' gradients are None afterwards. ValueError where the bound's gradient is zero on every chain.
    """
    squares = {"consistency": 0.0, "bound": 0.0}
    for number, (chain, draw) in enumerate(chains):
        for term in squares:
            forget_gradients(parameters)
            seed_layers(0, "length", number, *distributed.layer_key())  # the same dropout for both
            chain_backward(chain, consistency, 1.0, Evaluations(), draw, term)
            distributed.sum_gradients(parameters)
            norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
            squares[term] += float(torch.stack(norms).double().pow(2).sum())
    forget_gradients(parameters)
    if not squares["bound"] > 0:
        raise ValueError("the bound has no gradient here, so that no weight makes it as long as another")
    return math.sqrt(squares["consistency"] / squares["bound"])


def forget_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def joined(first: AnchorBatch, second: AnchorBatch) -> AnchorBatch:
    """Two ``AnchorBatch``es as one."""
    x0, x_t, t = (torch.cat([getattr(first, name), getattr(second, name)]) for name in ("x0", "x_t", "t"))
    return AnchorBatch(x0, x_t, t, first.count + second.count)
