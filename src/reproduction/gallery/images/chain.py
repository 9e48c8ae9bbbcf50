"""The generating chain from any time to any other, watched on the way."""

import torch

__all__ = ["descend"]


@torch.no_grad()
def descend(model, x, start, generator, stop=0, watch=None, alike=1):
    """x_stop [N, ...] by P_F from x_start = ``x`` [N, ...]; x_0 is the mean of the last step, as in DDPM.

    watch(t, x_t, ε_θ): called at t = start, …, stop + 1. alike: so many rows after one another get the same noise.
    Raises ValueError unless 0 ≤ stop ≤ start ≤ T and ``alike`` divides N.
    """
    if not 0 <= stop <= start <= model.timesteps:
        raise ValueError(f"a chain leads from start to stop, 0 ≤ {stop} ≤ {start} ≤ {model.timesteps} = T")
    if alike < 1 or len(x) % alike:
        raise ValueError(f"{len(x)} rows cannot be split into groups of {alike}")
    for step in range(start, stop, -1):
        t = torch.full((len(x),), step)
        prediction = model.predict(x, t)
        if watch is not None:
            watch(step, x, prediction.eps)
        x = model.process.reverse_mean(x, t, prediction.eps)
        if step > 1:
            noise = torch.randn(len(x) // alike, *x.shape[1:], generator=generator, dtype=x.dtype)
            x = x + torch.exp(0.5 * prediction.log_variance) * noise.repeat_interleave(alike, 0)
    return x
