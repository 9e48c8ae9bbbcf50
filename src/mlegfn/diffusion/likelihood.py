"""Negative log-likelihood bounds of a diffusion model, in bits a dimension."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from mlegfn.diffusion.precision import check_precision
from mlegfn.randomness import generator

if TYPE_CHECKING:
    from mlegfn.diffusion.model import DenoisingModel
    from mlegfn.diffusion.process import GaussianDiffusion

__all__ = ["BitsPerDim", "bits_per_dim", "bound_table", "epsilon_errors", "prior_term", "reduce_table"]


@dataclass
class BitsPerDim:
    """Bits/dim of N images: ``per_image`` [N], ``per_image_clipped`` [N] (x̂_0 clipped to [−1, 1]) and
    ``terms`` [T+1], the images' mean of L_0, L_1, …, L_{T−1}, L_T (unclipped); ``evaluations`` an image.
    ``standard_error`` of the mean over *these* images, from the (image, t) that were left out
    (``diffusion.stratified``): 0 where none was."""

    per_image: torch.Tensor
    per_image_clipped: torch.Tensor
    terms: torch.Tensor
    evaluations: float
    standard_error: float = 0.0
    standard_error_clipped: float = 0.0


def prior_term(process: "GaussianDiffusion", x0: torch.Tensor) -> torch.Tensor:
    """[N], nats: L_T = KL(q(x_T | x_0) ‖ N(0, I)) (Ho et al. 2020, eq. 5)."""
    mean, variance = process.marginal(x0.double(), process.timesteps)
    return 0.5 * (variance - 1 - variance.log() + mean**2).flatten(1).sum(1)


def noise_of_one(
    shape: Sequence[int], index: int, timesteps: int, key: tuple[int | str, ...]
) -> torch.Tensor:
    """[T, *shape], float32 on the CPU: the noise of image ``index``; row t − 1 is a function of (key, index, t)."""
    return torch.randn(timesteps, *shape, generator=generator(*key, int(index)))


def image_noise(
    x0: torch.Tensor, indices: Iterable[int], timesteps: int, key: tuple[int | str, ...]
) -> torch.Tensor:
    """[T, N, ...]: the noise of image i at time t is a function of (key, i, t) alone."""
    draws = [noise_of_one(x0.shape[1:], i, timesteps, key) for i in indices]
    return torch.stack(draws, dim=1).to(x0.device, x0.dtype)


def check_images(model: "DenoisingModel", x0: torch.Tensor, batch: int) -> None:
    """Refuse, with a ValueError, images that the bound is not defined for, and a batch below 1."""
    check_precision(x0, "x0")
    if not x0.isfinite().all():
        raise ValueError("x0 holds values that are not finite")
    if len(x0) == 0 or batch < 1:
        raise ValueError(f"bits_per_dim needs an image and a batch of at least 1, got {len(x0)} and {batch}")
    if model.levels is not None:
        place = (x0.double() + 1) * (model.levels - 1) / 2
        if (
            (place - place.round()).abs().max() > 1e-3
            or place.min() < -0.5
            or place.max() > model.levels - 0.5
        ):
            raise ValueError(f"x0 does not lie on the model's {model.levels} levels in [−1, 1]")


def progress(states: int, description: str) -> tqdm:
    """A bar over network evaluations that shows up when the work takes longer than five seconds."""
    return tqdm(
        total=states,
        desc=description,
        unit=" states",
        unit_scale=True,
        mininterval=1.0,
        delay=5,
        disable=not states,
    )


def bits_per_dim(
    model: "DenoisingModel",
    x0: torch.Tensor,
    seed: int = 0,
    batch: int = 512,
    first_index: int = 0,
    description: str = "NLL",
) -> BitsPerDim:
    """−log P(x_0) ≤ L_T + Σ_t L_{t−1} + L_0, over d ln 2 (Ho et al. 2020, eq. 5), as a ``BitsPerDim``.

    x0 [N, C, H, W]: pixels at the model's levels, scaled to [−1, 1]. Each L_{t−1} is the closed-form KL at
    one x_t ~ q(x_t | x_0); the noise is a function of (seed, image, t), so models are compared on
    equal noise. T network evaluations an image; ``description`` stands before the progress bar.
    Raises ValueError for no images, and for pixels that are not finite, not float32 or float64, or not on the levels.

    >>> import torch
    >>> from mlegfn.diffusion.model import DenoisingModel
    >>> from mlegfn.diffusion.process import GaussianDiffusion
    >>> from mlegfn.diffusion.schedules import betas
    >>> from mlegfn.diffusion.variances import fixed_log_variance
    >>> process = GaussianDiffusion(betas(50, start=0.002, end=0.4))
    >>> model = DenoisingModel(lambda x, time: x, process, fixed_log_variance(process, "large"), levels=256)
    >>> images = torch.zeros(3, 1, 8, 8) + 1 / 255  # of grey value 128, scaled to [−1, 1]
    >>> result = bits_per_dim(model, images)
    >>> result.per_image.shape, result.terms.shape, bool(result.per_image.mean() > 0)
    (torch.Size([3]), torch.Size([51]), True)
    """
    return reduce_table(*bound_table(model, x0, seed, batch, first_index, description), x0[0].numel())


@torch.no_grad()
def bound_table(
    model: "DenoisingModel",
    x0: torch.Tensor,
    seed: int = 0,
    batch: int = 512,
    first_index: int = 0,
    description: str = "NLL",
) -> tuple[torch.Tensor, torch.Tensor]:
    """(unclipped, clipped), each [T+1, N] float64 on the CPU, nats: L_0 … L_T of the images x0, which are number
    first_index, first_index + 1, … of the whole: tables of neighbouring slices are put together along dim 1.
    Arguments and errors as for ``bits_per_dim``."""
    check_images(model, x0, batch)
    T, N = model.timesteps, len(x0)
    terms = torch.empty(T + 1, N, dtype=torch.float64)
    clipped = torch.empty(T + 1, N, dtype=torch.float64)
    terms[T] = clipped[T] = prior_term(model.process, x0).cpu()
    group = max(1, batch // T)  # whole images at once: their noise is drawn image by image
    with progress(T * N, description) as bar:
        for start in range(0, N, group):
            x = x0[start : start + group]
            indices = range(first_index + start, first_index + start + len(x))
            noise = image_noise(x, indices, T, (seed, "nll"))
            flat_t = torch.arange(1, T + 1, device=x.device).repeat_interleave(len(x))
            flat_x, flat_noise = x.repeat(T, *[1] * (x.ndim - 1)), noise.flatten(0, 1)
            for piece in range(0, len(flat_t), batch):
                rows = slice(piece, piece + batch)
                t, image = flat_t[rows], flat_x[rows]
                x_t = model.process.noise(image, t, flat_noise[rows])
                prediction = model.predict(x_t, t)
                step, column = t.cpu() - 1, start + torch.arange(rows.start, rows.start + len(t)) % len(x)
                for table, clip in ((terms, False), (clipped, True)):
                    table[step, column] = (
                        model.bound_terms(image, x_t, t, prediction, clip=clip).double().cpu()
                    )
                bar.update(len(t))
    return terms, clipped


def reduce_table(terms: torch.Tensor, clipped: torch.Tensor, dims: int) -> BitsPerDim:
    """``BitsPerDim`` of whole tables [T+1, N], nats (``bound_table``), of images with ``dims`` pixel values."""
    if terms.ndim != 2 or terms.shape != clipped.shape or not terms.numel():
        raise ValueError(
            f"tables must be [T+1, N] and alike, got {tuple(terms.shape)} and {tuple(clipped.shape)}"
        )
    bits = dims * math.log(2)
    return BitsPerDim(terms.sum(0) / bits, clipped.sum(0) / bits, terms.mean(1) / bits, len(terms) - 1)


@torch.no_grad()
def epsilon_errors(
    model: "DenoisingModel", x0: torch.Tensor, seed: int = 0, batch: int = 512, first_index: int = 0
) -> torch.Tensor:
    """[T, N] float64: ‖ε − ε_θ(x_t, t)‖²/d of each image of x0; its mean over images is what
    ``analytic_log_variance`` wants. The images are number ``first_index``, … of their set."""
    T = model.timesteps
    if len(x0) == 0:
        return torch.zeros(T, 0, dtype=torch.float64)
    noise = image_noise(x0, range(first_index, first_index + len(x0)), T, (seed, "variance")).flatten(0, 1)
    flat_t = torch.arange(1, T + 1, device=x0.device).repeat_interleave(len(x0))
    flat_x = x0.repeat(T, *[1] * (x0.ndim - 1))
    errors = []
    for piece in range(0, len(flat_t), batch):
        rows = slice(piece, piece + batch)
        x_t = model.process.noise(flat_x[rows], flat_t[rows], noise[rows])
        eps = model.predict(x_t, flat_t[rows]).eps
        errors.append((noise[rows] - eps).double().pow(2).flatten(1).mean(1).cpu())
    return torch.cat(errors).view(T, len(x0))
