"""Bits/dim of a model with its standard error, by either estimator."""

import math
from importlib.util import find_spec

import torch
from tqdm import tqdm

from mlegfn.diffusion.likelihood import BitsPerDim, bits_per_dim
from mlegfn.errors import UserError

LONG = 200  # steps from which the stratified estimator is the default
STRATIFIED = "mlegfn.diffusion.stratified"


def estimator_of(name, timesteps):
    """``full`` or ``stratified``; None: the latter for long chains, where the full sum takes T evaluations an image."""
    if name is not None:
        return name
    return "stratified" if timesteps >= LONG and find_spec(STRATIFIED) else "full"


def measure(model, x0, estimator="full", evaluations=100, seed=0, batch=512, path="the model"):
    """``BitsPerDim`` of images x0 [N, C, H, W], with a progress bar.

    :raises UserError: naming ``path`` if the numbers are not finite, or the estimator cannot do what is asked
    """
    if estimator == "stratified":
        if evaluations > model.timesteps:
            raise UserError(
                f"--evaluations {evaluations}: the chain has {model.timesteps} steps; ask for at most as many, "
                "or for --estimator full"
            )
        if not find_spec(STRATIFIED):
            raise UserError("--estimator stratified: not in this version; use --estimator full")
        from mlegfn.diffusion.stratified import stratified_bits_per_dim

        measured = stratified_bits_per_dim(model, x0, seed=seed, evaluations=evaluations, batch=batch)
    else:
        measured = _full(model, x0, seed, batch)
    if not measured.per_image.isfinite().all():
        raise UserError(
            f"{path}: its bits/dim are not finite; its weights hold values that are not, or the variance is of "
            "another network (--variance analytic fits any)"
        )
    return measured


def _full(model, x0, seed, batch):
    """``bits_per_dim`` group by group, in the groups that it forms itself: the same numbers, bit for bit."""
    group, parts = max(1, batch // model.timesteps), []
    with tqdm(total=len(x0), desc="bits/dim", unit="image", mininterval=1.0) as bar:
        for start in range(0, len(x0), group):
            part = x0[start : start + group]
            parts.append((len(part), bits_per_dim(model, part, seed, batch, first_index=start)))
            bar.update(len(part))
    return BitsPerDim(
        torch.cat([each.per_image for _, each in parts]),
        torch.cat([each.per_image_clipped for _, each in parts]),
        sum(count * each.terms for count, each in parts) / len(x0),
        model.timesteps,
    )


def mean_and_error(values):
    """Mean and standard error of per-image values [N]; None for the error of a single image."""
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
    return values.mean().item(), error


def said(values):
    """``3.7512 ± 0.0123``"""
    mean, error = mean_and_error(values)
    return f"{mean:.4f}" if error is None else f"{mean:.4f} ± {error:.4f}"
