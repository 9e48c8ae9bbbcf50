"""Bits/dim of a model with its standard error, by either estimator."""

import math

from mlegfn.diffusion.likelihood import bits_per_dim
from mlegfn.diffusion.stratified import allocation, stratified_bits_per_dim
from mlegfn.errors import UserError

LONG = 200  # steps from which the stratified estimator is the default


def estimator_of(name, model, images, evaluations):
    """``full`` or ``stratified``. None: the latter for long chains, where the full sum takes T evaluations an image,
    if there are images enough for it.

    :raises UserError: for a ``stratified`` that cannot be done
    """
    if name == "full" or (name is None and model.timesteps < LONG):
        return "full"
    if evaluations > model.timesteps:
        raise UserError(
            f"--evaluations {evaluations}: the chain has {model.timesteps} steps; ask for at most as many, or for "
            "--estimator full"
        )
    try:
        allocation(model.process, images, evaluations)
    except ValueError as error:
        if name is None:
            return "full"
        raise UserError(f"--evaluations {evaluations}: {error}, or for --estimator full") from None
    return "stratified"


def measure(model, x0, estimator="full", evaluations=100, seed=0, batch=512, path="the model"):
    """``BitsPerDim`` of images x0 [N, C, H, W].

    :raises UserError: naming ``path`` if the numbers are not finite
    """
    if estimator == "stratified":
        measured = stratified_bits_per_dim(model, x0, seed=seed, evaluations=evaluations, batch=batch)
    else:
        measured = bits_per_dim(model, x0, seed, batch)
    if not measured.per_image.isfinite().all():
        raise UserError(
            f"{path}: its bits/dim are not finite; its weights hold values that are not, or the variance is of "
            "another network (--variance analytic fits any)"
        )
    return measured


def mean_and_error(values):
    """Mean of per-image values [N] and its standard error as an estimate for all such images; None for one image.

    With ``stratified`` the values spread by the sampling of t as well, so the error covers it.
    """
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
    return values.mean().item(), error


def said(values):
    """``3.7512 ± 0.0123``"""
    mean, error = mean_and_error(values)
    return f"{mean:.4f}" if error is None else f"{mean:.4f} ± {error:.4f}"
