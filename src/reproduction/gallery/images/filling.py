"""Filling the unknown part of an image with an unconditional model: replacement, and RePaint's resampling."""

import torch

__all__ = ["KNOWN", "filled", "known_part", "seam"]

KNOWN = {
    "three_quarters": "all but the lower right quarter",
    "half": "the left half",
    "quarter": "the upper left quarter",
}


def known_part(which, shape):
    """[C, H, W]: 1 where the image is known, 0 where it is to be filled; ``which``: a key of ``KNOWN``."""
    if which not in KNOWN:
        raise ValueError(f"no part {which!r}; there are {', '.join(KNOWN)}")
    mask, (_, height, width) = torch.zeros(shape), shape
    lower, right = height // 2, width // 2
    if which == "three_quarters":
        mask[:] = 1
        mask[:, lower:, right:] = 0
    elif which == "half":
        mask[:, :, :right] = 1
    else:
        mask[:, :lower, :right] = 1
    return mask


@torch.no_grad()
def filled(model, images, known, generator, jump=1, resamplings=1):
    """[N, ...]: ``images`` [N, ...] where ``known`` is 1, and samples where it is 0.

    resamplings = 1 is replacement (Song et al. 2021, arXiv 2011.13456, §5): at every step the known part of x_t−1 is
    drawn from q(x_t−1|x_0), the other from P_F. The latter does not know the former's future, so parts do not fit.
    More of them is RePaint (Lugmayr et al. 2022, arXiv 2201.09865): after each ``jump`` steps, so many are noised
    again and repeated, ``resamplings`` times in all, which lets both parts come to terms. diffusers' RePaintScheduler
    does it, on the model's own steps (its β_t for chains that it shortens itself are those of other times).
    Raises ValueError for values of ``known`` other than 0 and 1.
    """
    from diffusers import RePaintScheduler

    if not ((known == 0) | (known == 1)).all():
        raise ValueError("a pixel is known, 1, or not, 0")
    scheduler = RePaintScheduler(
        num_train_timesteps=model.timesteps,
        trained_betas=model.process.beta[1:].numpy(),
        eta=1.0,
        clip_sample=False,
    )
    scheduler.set_timesteps(model.timesteps, jump_length=jump, jump_n_sample=resamplings)
    x, last = torch.randn(images.shape, generator=generator, dtype=images.dtype), model.timesteps
    for step in scheduler.timesteps.tolist():
        if step < last:
            eps = model.predict(x, torch.full((len(x),), step + 1)).eps
            x = scheduler.step(eps, step, x, images, known, generator=generator).prev_sample
        else:
            x = scheduler.undo_step(x, last, generator=generator)
        last = step
    return x


def seam(images, known):
    """Mean square difference of neighbours [N, C, H, W] of which one is known and one is not."""
    total, count = 0.0, 0
    for dim in (2, 3):
        size = images.shape[dim] - 1
        crossing = known.narrow(dim - 1, 0, size) != known.narrow(dim - 1, 1, size)
        gap = (images.narrow(dim, 0, size) - images.narrow(dim, 1, size)).square().mean(0)
        total, count = total + gap[crossing].double().sum().item(), count + crossing.sum().item()
    if not count:
        raise ValueError("all pixels are known, or none: there is no seam")
    return total / count
