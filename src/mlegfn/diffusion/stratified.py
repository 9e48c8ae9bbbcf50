"""Bits a dimension from a sample of the (image, t): the full sum over t, estimated without bias.

Three parts, so that ranks can share the work: ``design`` says which of all pairs are evaluated, ``sampled_terms``
evaluates those of a slice of the images, and ``reduce_terms`` makes a ``BitsPerDim`` of all slices' terms.
"""

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mlegfn.diffusion.ahead import computed_ahead
from mlegfn.diffusion.likelihood import BitsPerDim, check_images, noise_of_one, prior_term, progress
from mlegfn.randomness import generator

if TYPE_CHECKING:
    from mlegfn.diffusion.model import DenoisingModel
    from mlegfn.diffusion.process import GaussianDiffusion

__all__ = [
    "Design",
    "Terms",
    "allocation",
    "design",
    "join",
    "reduce_terms",
    "sampled_terms",
    "sampling_variance",
    "spread_guess",
    "stratified_bits_per_dim",
]

LEAST = 2  # images a step: the spread between two is the least that can be seen
FLOOR = 0.1  # share of the evaluations that goes evenly to all steps, should the guess be wrong


@dataclass(frozen=True)
class Design:
    """Which (image, t) are evaluated: a function of (seed, N, T, evaluations, schedule), never of a model.

    images: N
    counts: [T+1] int64, n of L_0, L_1, …, L_T: how many of the images each is known for; N for L_T, which is free
    image, step: [P] int64, the pairs, sorted: L_step of image, at t = step + 1
    """

    images: int
    counts: torch.Tensor
    image: torch.Tensor
    step: torch.Tensor


@dataclass(frozen=True)
class Terms:
    """What a design asks for of some images: [P'] rows (image, step, L_step in nats, the same with x̂_0 clipped),
    float64 on the CPU; L_T of every image is among them."""

    image: torch.Tensor
    step: torch.Tensor
    value: torch.Tensor
    clipped: torch.Tensor


def spread_guess(process: "GaussianDiffusion") -> torch.Tensor:
    """[T] float64: a model-free guess, up to a factor, of the standard deviation over images of L_0 … L_{T−1}.

    With σ_t² = β_t, L_{t−1} is w_t E‖ε − ε̂‖²/d a dimension, w_t = β_t/(2α_t(1 − ᾱ_t)), and an optimal ε̂ for data of
    variance v has E‖ε − ε̂‖²/d = e_t = vᾱ_t/(vᾱ_t + 1 − ᾱ_t). What is left of an image once its neighbours explain
    it has a v far below the pixels' own, and the deviation falls more slowly than the mean: v = 0.05 and the
    power 0.7 were chosen on digits and CIFAR-10, each with a small U-Net at T = 1000. They cost at most a third more
    variance than the best allocation there (benchmarks/nll_fast.py); a bad guess costs evaluations, never bias.
    """
    signal = 0.05 * process.alpha_bar[1:]
    error = signal / (signal + process.noise_variance[1:])
    weight = process.beta[1:] / (2 * process.alpha[1:] * process.noise_variance[1:])
    return weight * error**0.7


def allocation(process: "GaussianDiffusion", images: int, evaluations: float) -> torch.Tensor:
    """[T] int64: of how many of N images L_0 … L_{T−1} is evaluated; their sum is about N · evaluations.

    n ∝ (1 − FLOOR) · spread_guess + FLOOR · its mean, between LEAST and N (Neyman's allocation with a uniform
    share mixed in), and N at t = 1, the decoder's term, which no guess covers.
    Raises ValueError where there are not images or evaluations enough for that.
    """
    T, least = process.timesteps, min(LEAST, images)
    if images < 1 or not 1 <= evaluations <= T:
        raise ValueError(
            f"images must be at least 1 and evaluations 1 … T = {T}, got {images} and {evaluations}"
        )
    wanted = round(images * evaluations)
    if wanted < images + least * (T - 1):
        raise ValueError(
            f"{evaluations} evaluations an image are too few for {images} images: t = 1 is evaluated for all of them and "
            f"every other of the {T} steps for {least} at least; "
            f"ask for {math.ceil((images + least * (T - 1)) / images)} or more"
        )
    guess = spread_guess(process)
    share = (1 - FLOOR) * guess / guess.mean() + FLOOR
    share[0] = math.inf
    low, high = 0.0, images / share.min().item()  # at ``high`` every n is N

    def counts(factor: float) -> torch.Tensor:
        return (factor * share).clamp(least, images).round().long()

    for _ in range(100):  # bisection: the sum rises with the factor
        middle = (low + high) / 2
        low, high = (middle, high) if counts(middle).sum() <= wanted else (low, middle)
    return counts(high) if counts(high).sum() <= wanted else counts(low)


def design(process: "GaussianDiffusion", images: int, evaluations: float, seed: int = 0) -> Design:
    """The ``Design`` for N images: for each t the first n of a permutation of the images that is a function of
    (seed, t), so n of them without replacement, independently from t to t. Errors as for ``allocation``."""
    counts = allocation(process, images, evaluations)
    drawn = [
        torch.randperm(images, generator=generator(seed, "nll design", t))[:n]
        for t, n in enumerate(counts.tolist(), 1)
    ]
    key = torch.cat(drawn) * process.timesteps + torch.arange(process.timesteps).repeat_interleave(counts)
    key = key.sort().values
    return Design(
        images, torch.cat([counts, torch.tensor([images])]), key // process.timesteps, key % process.timesteps
    )


@torch.no_grad()
def sampled_terms(
    model: "DenoisingModel",
    x0: torch.Tensor,
    design: Design,
    seed: int = 0,
    batch: int = 512,
    first_index: int = 0,
    threads: int | None = None,
    description: str = "NLL",
) -> Terms:
    """The ``Terms`` that ``design`` asks for of the images x0, number first_index, first_index + 1, … of its N.

    x0, seed and the noise are as in ``likelihood.bits_per_dim``: each value is the one in its table. ``threads``
    draw the noise while the device computes (None: up to 8 for a GPU, one for a CPU); about two images a thread
    and a batch are in memory. ``description`` stands before the progress bar.
    Raises ValueError as ``bits_per_dim`` does, and for images or steps that the design does not have.
    """
    check_images(model, x0, batch)
    T, last = model.timesteps, first_index + len(x0)
    if len(design.counts) != T + 1:
        raise ValueError(f"the design has {len(design.counts) - 1} steps and the model {T}")
    if first_index < 0 or last > design.images:
        raise ValueError(
            f"the design has images 0…{design.images - 1}, x0 is number {first_index}…{last - 1}"
        )
    ends = torch.searchsorted(design.image, torch.tensor([first_index, last]))
    image, step = design.image[ends[0] : ends[1]], design.step[ends[0] : ends[1]]
    if threads is None:
        threads = min(8, os.cpu_count() or 1) if x0.device.type != "cpu" else 1
    values, clipped = [], []
    with progress(len(image), description) as bar:
        start = 0
        for noise in _noise(x0, image, step, T, (seed, "nll"), batch, threads):
            rows = slice(start, start + len(noise))
            x = x0[(image[rows] - first_index).to(x0.device)]
            t = (step[rows] + 1).to(x0.device)
            x_t = model.process.noise(x, t, noise.to(x0.device, x0.dtype))
            prediction = model.predict(x_t, t)
            values.append(model.bound_terms(x, x_t, t, prediction).double())
            clipped.append(model.bound_terms(x, x_t, t, prediction, clip=True).double())
            bar.update(len(noise))
            start = rows.stop
    prior = prior_term(model.process, x0)
    return Terms(
        torch.cat([image, torch.arange(first_index, last)]),
        torch.cat([step, torch.full((len(x0),), T)]),
        torch.cat([*values, prior]).cpu(),
        torch.cat([*clipped, prior]).cpu(),
    )


def _noise(
    x0: torch.Tensor,
    image: torch.Tensor,
    step: torch.Tensor,
    timesteps: int,
    key: tuple[int | str, ...],
    batch: int,
    threads: int,
) -> Iterator[torch.Tensor]:
    """The noise [P, C, H, W] of the sorted pairs (image, step), in pieces of ``batch`` rows, on the CPU.

    An image's T rows are one stream, so all are drawn and most dropped; torch.randn lets go of the GIL, so
    threads draw several images at once, and do so while the caller waits for its device.
    """
    indices, counts = image.unique_consecutive(return_counts=True)
    wanted = zip(indices.tolist(), step.split(counts.tolist()))

    def draw(item: tuple[int, torch.Tensor]) -> torch.Tensor:
        return noise_of_one(x0.shape[1:], item[0], timesteps, key)[item[1]]

    with ThreadPoolExecutor(threads) as pool:
        held = []
        for rows in computed_ahead(pool, draw, wanted, 2 * threads):
            held.append(rows)
            if sum(map(len, held)) >= batch:
                *full, rest = torch.cat(held).split(batch)
                held = [rest] if len(rest) < batch else []
                yield from full if held else [*full, rest]
        if held:
            yield torch.cat(held)


def join(parts: Iterable[Terms]) -> Terms:
    """The ``Terms`` of several slices as one, in whatever order."""
    return Terms(*(torch.cat([getattr(p, name) for p in parts]) for name in Terms.__dataclass_fields__))


def reduce_terms(design: Design, terms: Terms, dims: int) -> BitsPerDim:
    """``BitsPerDim`` of *all* the terms that ``design`` asks for, of images with ``dims`` pixel values.

    With m_t the mean of L_{t−1} over its n_t images S_t, the estimate of Σ_t L_{t−1} of image i is

        Σ_t m_t + 1[i ∈ S_t] (N − 1)/(n_t − 1) (L_{i,t} − m_t),

    without bias for every i. Its mean over images, Σ_t m_t, is Horvitz and Thompson's; its spread is that of the
    images and of the sampling, and no more (their own Σ_t 1[i ∈ S_t] N/n_t L_{i,t} would spread by the
    *size* of L, not by its differences). The standard error is that of Σ_t m_t for a finite population:
    SE² = Σ_t (1 − n_t/N) s_t²/n_t, with s_t² the sample variance (Cochran 1977, §5.3).
    Raises ValueError if a term is missing, given twice, or not asked for.
    """
    T, N = len(design.counts) - 1, design.images
    key = terms.image * (T + 1) + terms.step
    order = key.argsort()
    everything = (
        torch.cat([design.image * (T + 1) + design.step, torch.arange(N) * (T + 1) + T]).sort().values
    )
    if not torch.equal(key[order], everything):
        raise ValueError(
            f"the design asks for {len(everything)} terms, each once, and these are {len(key)} others; "
            "were all slices of the images put together, each once?"
        )
    image, step, bits = terms.image[order], terms.step[order], dims * math.log(2)
    per_image: tuple[torch.Tensor, torch.Tensor]
    means: tuple[torch.Tensor, torch.Tensor]
    errors: tuple[float, float]
    per_image, means, errors = zip(
        *(_reduced(design, image, step, values[order] / bits) for values in (terms.value, terms.clipped))
    )
    return BitsPerDim(*per_image, means[0], len(design.image) / N, *errors)


def _reduced(
    design: Design, image: torch.Tensor, step: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(per image [N], per step [T+1], standard error) of sorted terms in the units of ``values``."""
    N, counts = design.images, design.counts.double()
    zeros = torch.zeros(len(counts), dtype=torch.float64)
    means = zeros.index_add(0, step, values) / counts
    deviations = values - means[step]
    variances = zeros.index_add(0, step, deviations**2) / (counts - 1).clamp(min=1)
    weights = (N - 1) / (counts - 1).clamp(min=1)
    per_image = zeros.new_zeros(N).index_add(0, image, weights[step] * deviations) + means.sum()
    return per_image, means, sampling_variance(design.counts, variances, N).sqrt().item()


def sampling_variance(counts: torch.Tensor, variances: torch.Tensor, images: int) -> torch.Tensor:
    """Variance [] of Σ_t m_t: Σ_t (1 − n_t/N) s_t²/n_t, for counts n [S] and variances over images s² [S]."""
    counts = counts.double()
    return ((1 - counts / images) * variances / counts).sum()


def stratified_bits_per_dim(
    model: "DenoisingModel",
    x0: torch.Tensor,
    seed: int = 0,
    evaluations: float = 100,
    batch: int = 512,
    description: str = "NLL",
) -> BitsPerDim:
    """What ``likelihood.bits_per_dim(model, x0, seed)`` is, estimated from ``evaluations`` network evaluations an
    image, on average, with the same noise: a ``BitsPerDim`` with a standard error against it.

    All models are evaluated at the same (image, t), so they can be compared image by image.
    Raises ValueError as ``bits_per_dim`` does and for evaluations below what a ``design`` needs or above T.
    """
    check_images(model, x0, batch)
    plan = design(model.process, len(x0), evaluations, seed)
    terms = sampled_terms(model, x0, plan, seed, batch, description=description)
    return reduce_terms(plan, terms, x0[0].numel())
