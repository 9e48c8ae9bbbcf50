"""Progressive generation: what the model thinks the image is, on the way; and how many bits that took."""

import math

import torch
from torch.nn import functional as F

from mlegfn.randomness import generator
from reproduction.gallery.images.chain import descend
from reproduction.gallery.images.model import test_images, trained
from reproduction.gallery.station import Quantity, Result, Station


class Progressive(Station):
    """At every time of its path the model has an opinion of where the path ends: x̂_0 = (x_t − √(1 − ᾱ_t) ε_θ)/√ᾱ_t.
    The coarse form of the image is settled first, its details last. Read as a code, the path sends an image bit by bit
    from t = T down, and x̂_0 is what the receiver can show so far; the later half of the bits is spent on differences
    that hardly anybody would see.
    """

    title = "Progressive generation"
    order = 8
    notes = "progressive denoising and lossy compression"
    reads = ("algorithms",)
    trained_once = True

    @classmethod
    def run(cls, settings, inputs):
        model = trained(inputs)
        times = shown_times(settings.times, model.timesteps)
        draw = generator(settings.seed, "gallery", "progressive")
        start = torch.randn(settings.samples, *inputs.images.shape, generator=draw)
        ends, guesses = watched(model, start, times, draw)
        coarse, fine = errors(guesses, ends)
        total = (coarse.square() + fine.square()).sqrt()
        spread = spreads(ends)
        halves = {
            name: half_time(error, spread[name] / 2, times) / model.timesteps
            for name, error in (("coarse", coarse), ("fine", fine))
        }
        rate, distortion = rate_distortion(
            model, test_images(inputs.images)[: settings.images], settings.seed
        )
        levels = distortion * (inputs.images.levels - 1) / 2
        quarters = total[[nearest(times, part * model.timesteps) for part in (1, 0.75, 0.5, 0.25, 0)]]
        rises = quarters.diff(dim=0)
        rise = rises[rises.mean(1).argmax()]
        return Result(
            {
                "fine_minus_coarse": mean_of(
                    "time at which half of the details are settled minus that of the coarse form, as a part of T",
                    halves["fine"] - halves["coarse"],
                ),
                "coarse_half": mean_of("t/T at which half of the coarse form is settled", halves["coarse"]),
                "fine_half": mean_of("t/T at which half of the details are settled", halves["fine"]),
                "rise": mean_of(
                    "distance of x̂_0 from x_0: its largest rise (least fall) over a quarter of T",
                    rise,
                    "of the range [−1, 1]",
                ),
                "bits": mean_of("bits of a test image after all steps", rate[-1], "bits/dim"),
                "distortion_half": mean_of(
                    "root mean square error of x̂_0 when half of the bits are there",
                    at_half(rate, levels),
                    "grey levels",
                ),
            },
            {
                "times": times,
                **{
                    name: (error.square().mean(1).sqrt() / spread[name]).tolist()
                    for name, error in (("coarse", coarse), ("fine", fine))
                },
                "distance": total.mean(1).tolist(),
                **curve(rate, levels),
            },
            {"guesses": guesses[:, :8].contiguous(), "samples": ends[:8]},
        )


def mean_of(what, values, unit=""):
    """Their mean as a Quantity, with its standard error over images."""
    return Quantity(what, [values.mean().item()], unit, (values.std() / len(values) ** 0.5).item())


def shown_times(count, timesteps):
    """At most ``count`` times, evenly spaced from T down to 1."""
    return torch.linspace(timesteps, 1, count, dtype=torch.float64).round().long().unique().flip(0).tolist()


def watched(model, start, times, draw):
    """(x_0 [N, ...], x̂_0 [K, N, ...] at the K ``times``) of paths from x_T = ``start`` [N, ...], clipped to [−1, 1]."""
    guesses, wanted = [], set(times)

    def watch(t, x_t, eps):
        if t in wanted:
            guesses.append(model.process.predict_x0(x_t, t, eps).clamp(-1, 1))

    ends = descend(model, start, model.timesteps, draw, watch=watch)
    return ends.clamp(-1, 1), torch.stack(guesses)


def parts_of(images):
    """Root mean squares over pixels, float64 [...], of images [..., C, H, W]: of means over 2×2 pixels, of what is left.

    The two parts are orthogonal: their squares add up to the mean square. ValueError for odd H or W.
    """
    if images.shape[-1] % 2 or images.shape[-2] % 2:
        raise ValueError(f"means over 2×2 pixels need even sides, not {tuple(images.shape[-2:])}")
    flat = images.flatten(0, -4)
    coarse = F.interpolate(F.avg_pool2d(flat, 2), scale_factor=2)
    return tuple(
        error.double().flatten(1).square().mean(1).sqrt().view(images.shape[:-3])
        for error in (coarse, flat - coarse)
    )


def errors(guesses, ends):
    """Root mean square errors [K, N] of x̂_0 [K, N, C, H, W], x_0 [N, C, H, W]: of the coarse form, of the details."""
    return parts_of(guesses - ends)


def spreads(ends):
    """{"coarse", "fine"}: root mean squares of both parts of x_0 − its mean over samples: what there is to settle.

    Not the error at t = T: there x̂_0 is the network's error times 1/√ᾱ_T, a large number, and says nothing.
    """
    coarse, fine = parts_of(ends - ends.mean(0))
    return {name: part.square().mean().sqrt().item() for name, part in (("coarse", coarse), ("fine", fine))}


def nearest(times, t):
    """The index of the entry of ``times`` nearest to ``t``."""
    return min(range(len(times)), key=lambda k: abs(times[k] - t))


def half_time(error, half, times):
    """[N]: the first of the falling ``times`` from which on an error [K, N] stays at most ``half``."""
    last = torch.where(error > half, torch.arange(len(times))[:, None], -1).amax(0)  # the last time above
    return torch.tensor(times, dtype=torch.float64)[(last + 1).clamp(max=len(times) - 1)]


@torch.no_grad()
def rate_distortion(model, images, seed):
    """(bits/dim so far, root mean square error of x̂_0), float64 [T + 1, N] each (Ho et al. 2020, §4.3).

    Row k: after L_T, L_T−1, …, k terms of the bound beside L_T, the receiver knows x_t, t = T − k; the last row is all
    bits, and x_0 itself, without error. Each x_t is drawn from q(x_t|x_0) by itself: right for means of the terms.
    """
    process, dims = model.process, images[0].numel()
    mean, variance = process.marginal(images.double(), model.timesteps)
    prior = 0.5 * (variance - 1 - variance.log() + mean.square()).flatten(1).sum(1)
    rates, distortions = [prior], []
    for step in range(model.timesteps, 0, -1):
        draw, t = generator(seed, "gallery", "progressive", "rate", step), torch.full((len(images),), step)
        x_t = process.noise(images, t, torch.randn(images.shape, generator=draw))
        prediction = model.predict(x_t, t)
        guess = process.predict_x0(x_t, t, prediction.eps).clamp(-1, 1)
        distortions.append((guess - images).double().square().flatten(1).mean(1).sqrt())
        rates.append(model.bound_terms(images, x_t, t, prediction).double())
    return torch.stack(rates).cumsum(0) / (dims * math.log(2)), torch.stack([*distortions, 0 * prior])


def at_half(rate, distortion):
    """[N]: the distortion of each image when half of its bits are there; rate, distortion [T + 1, N]."""
    row = (rate >= rate[-1] / 2).int().argmax(0)
    return distortion.gather(0, row[None])[0]


def curve(rate, distortion, points=100):
    """{"rate", "distortion"}: means over the images at ``points`` times, and their standard errors."""
    rows = torch.linspace(0, len(rate) - 1, points).round().long().unique()
    curves = {}
    for name, values in (("rate", rate[rows]), ("distortion", distortion[rows])):
        curves[name] = values.mean(1).tolist()
        curves[f"{name}_standard_error"] = (values.std(1) / values.shape[1] ** 0.5).tolist()
    return curves
