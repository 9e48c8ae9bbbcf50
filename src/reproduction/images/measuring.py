"""Bits/dim of one model by the estimator of a scale, and log p beside it by importance weighting."""

import torch

from mlegfn.diffusion.importance import log_likelihood, log_weights
from mlegfn.diffusion.likelihood import bound_table, reduce_table
from mlegfn.diffusion.stratified import allocation, design, join, reduce_terms, sampled_terms
from mlegfn.errors import UserError
from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.objectives.consistency import consistency
from mlegfn.training import distributed
from mlegfn.training.checkpoint import process_of

__all__ = ["check", "log_p", "measure", "summary"]


def check(stage, images, which="test"):
    """A UserError, before anything is evaluated, if the estimator cannot do with so few evaluations."""
    settings = stage.settings
    if settings.nll.estimator == "full":
        return
    try:
        allocation(process_of(settings.diffusion), images, settings.nll.evaluations)
    except ValueError as error:
        raise UserError(
            f"params.yaml: images.{stage.scale}.nll.evaluations: of {images} {which} images: {error}"
        ) from None


def measure(model, images, settings, description):
    """``BitsPerDim`` of one model by the estimator of ``settings`` (the block ``nll``), each rank doing its images.

    Every rank has to ask, and there have to be as many images as ranks.
    """
    mine, dims = distributed.share(len(images)), images[0].numel()
    own, options = images[mine], {"first_index": mine.start, "description": description}
    if settings.estimator == "full":
        part = bound_table(model, own, settings.seed, settings.batch, **options)
        return reduce_table(*(torch.cat(tables, 1) for tables in zip(*distributed.gather(part))), dims)
    plan = design(model.process, len(images), settings.evaluations, settings.seed)
    part = sampled_terms(model, own, plan, settings.seed, settings.batch, **options)
    return reduce_terms(plan, join(distributed.gather(part)), dims)


def summary(measured):
    """One point's JSON fields from a ``BitsPerDim``.

    ``standard_error`` is over images, what t were left out included; ``estimator_standard_error`` is of the
    second part alone, against the full sum over t on these images.
    """
    count = len(measured.per_image)
    return {
        "bits_per_dim": measured.per_image.mean().item(),
        "standard_error": measured.per_image.std().item() / count**0.5 if count > 1 else None,
        "estimator_standard_error": measured.standard_error,
        "bits_per_dim_clipped": measured.per_image_clipped.mean().item(),
        "estimator_standard_error_clipped": measured.standard_error_clipped,
        "per_image": measured.per_image.tolist(),
        "terms": measured.terms.tolist(),
    }


def log_p(model, images, settings, seed):
    """log p of the first images, in nats, beside its bound: JSON fields, or None on a rank other than the first.

    settings: the block ``nll.log_p``. Importance weighting over joint trajectories τ ~ P_B: log p̂ = log mean w is a lower
    bound in expectation that rises with their number M; the noise is a function of (seed, number of the trajectory), the
    same for every model. ``half``: the mean of log p̂ with half of them, which shows how far it is from settled.
    """
    if not distributed.is_first():
        return None
    chosen = images[: settings.images]
    log_w = log_weights(model, chosen, range(settings.trajectories), (seed, "log-p"), batch=1024)
    measured = log_likelihood(log_w)
    return {
        "images": len(chosen),
        "trajectories": settings.trajectories,
        "log_p": -measured.nll,
        "log_p_half": -measured.half,
        "standard_error": measured.standard_error,
        "bias": measured.bias,
        "elbo": -measured.elbo,
        "variance": measured.variance,
        "per_image": {
            "log_p": importance_weighted(log_w).tolist(),
            "elbo": elbo(log_w).tolist(),
            "variance": consistency(log_w).tolist(),
        },
    }
