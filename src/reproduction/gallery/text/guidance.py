"""Classifier-free guidance, and sampling with diffusers' DDIM."""

import math

import torch
from diffusers import DDIMScheduler

__all__ = ["ddim", "guided"]


def guided(conditional, unconditional, weight):
    """ε(x, t) = ε_c + w (ε_c − ε_u) (Ho & Salimans 2022, arXiv 2207.12598, eq. 6): it extrapolates.

    w = 0 is the conditional model itself, w = −1 the unconditional one; then the other is not evaluated.
    Both: functions (x [N, ...], t [N]) → [N, ...].

    :raises ValueError: for a weight that is not finite, or below −1, where the condition would push away
    """
    if not (math.isfinite(weight) and weight >= -1):
        raise ValueError(f"a guidance weight must be finite and at least −1, not {weight}")
    if weight == 0:
        return conditional
    if weight == -1:
        return unconditional

    def both(x, t):
        with_caption, untold = conditional(x, t), unconditional(x, t)
        return with_caption + weight * (with_caption - untold)

    return both


@torch.no_grad()
def ddim(predict, noise, process, steps, prediction="epsilon", bound=1.0):
    """x_0 [N, ...] from x_T = ``noise`` by DDIM with η = 0 (Song et al. 2021, arXiv 2010.02502, eq. 12).

    predict(x, t): the network's output at its times t int64 [N] in 0…T−1: ε, x_0 (``prediction`` = "sample") or v ("v_prediction");
    steps must divide T: diffusers looks for the time before t at t − T/steps; bound: x̂_0 is clipped to ±bound, or not
    (None).
    """
    if process.timesteps % steps:
        raise ValueError(f"DDIM's steps must divide T = {process.timesteps}, {steps} do not")
    scheduler = DDIMScheduler(
        num_train_timesteps=process.timesteps,
        trained_betas=process.beta[1:].tolist(),
        prediction_type=prediction,
        clip_sample=bound is not None,
        clip_sample_range=bound or 1.0,
        timestep_spacing="trailing",  # from T itself; the last step then ends in x̂_0
    )
    scheduler.set_timesteps(steps)
    x = noise
    for time in scheduler.timesteps.tolist():
        out = predict(x, torch.full((len(x),), time))
        x = scheduler.step(out, time, x, use_clipped_model_output=True).prev_sample
    return x
