"""Forward diffusion: the closed form against simulation, entropy along the path, and where every path ends."""

import torch

from mlegfn.data import planar, scale_to_unit
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.randomness import generator
from reproduction.gallery.points.mixture import Noised, entropy_and_divergence
from reproduction.gallery.station import Quantity, Result, Station


class Forward(Station):
    """Noise is added in small Gaussian steps, q(x_t|x_t−1) = N(√α_t x_t−1, β_t I), and the product of all steps has a
    closed form, q(x_t|x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I). Paths that are simulated step by step have its mean and
    variance. Whatever the data are, x_t forgets them: its entropy rises to that of a normal distribution or falls to
    it, and the divergence KL(p_t ‖ N(0, I)) falls to nothing. How fast is the schedule's choice.
    """

    title = "Forward diffusion"
    order = 1
    notes = "forward noising, the closed-form marginal"

    @classmethod
    def run(cls, settings, inputs):
        starts = {
            **{problem: points(problem, settings) for problem in settings.problems},
            "images": pixels(inputs.images, settings),
        }
        curves, last, checks, tensors = [], {}, {}, {}
        for schedule in settings.schedules:
            process = GaussianDiffusion(
                betas(settings.timesteps, schedule, settings.beta_start, settings.beta_end)
            )
            checks[schedule] = simulated(process, starts[settings.problems[0]], settings)
            for start, data in starts.items():
                curve = measured(process, data, (start, schedule), settings)
                curves.append({"schedule": schedule, "start": start, "dims": data.shape[1], **curve})
                last[schedule, start] = (curve["divergence"][-1], curve["divergence_standard_error"][-1])
            if schedule == settings.schedules[0]:
                tensors = clouds(process, starts[settings.problems[0]], settings)
        quantities = {}
        for schedule in settings.schedules:
            quantities |= simulation(
                schedule, checks[schedule], settings.paths * starts[settings.problems[0]].shape[1]
            )
            worst = max((last[schedule, start] for start in starts), key=lambda pair: pair[0] + 2 * pair[1])
            quantities[f"end_{schedule}"] = Quantity(
                f"KL(p_T ‖ N(0, I)) at the end, {schedule}: worst of {len(starts)} starts",
                [worst[0]],
                "nats",
                worst[1],
            )
        return Result(quantities, {"curves": curves, "simulation": checks}, tensors)


def points(problem, settings):
    """[N, 2] data of a planar problem, each coordinate with mean 0 and variance 1."""
    drawn = planar.sample(problem, settings.points, generator(settings.seed, "gallery", "forward", problem))
    drawn = drawn.double()
    return (drawn - drawn.mean(0)) / drawn.std(0)


def pixels(images, settings):
    """[N, C·H·W] training images in [−1, 1]."""
    return scale_to_unit(images.train_images[: settings.points], images.levels).flatten(1).double()


def shown_times(settings):
    """Times in 1…T, close together at the beginning, where most happens."""
    fractions = torch.linspace(0, 1, settings.times, dtype=torch.float64) ** 2
    return (1 + fractions * (settings.timesteps - 1)).round().long().unique().tolist()


def measured(process, data, key, settings):
    """Entropy of x_t and its divergence from N(0, I), nats, along the times."""
    noised, curve = Noised(data, process), {"t": shown_times(settings)}
    for name in ("entropy", "divergence"):
        curve |= {name: [], f"{name}_standard_error": []}
    for t in curve["t"]:
        draw = generator(settings.seed, "gallery", "forward", *key, t)
        for name, (value, error) in zip(
            ("entropy", "divergence"), entropy_and_divergence(noised, t, settings.samples, draw), strict=True
        ):
            curve[name].append(value)
            curve[f"{name}_standard_error"].append(error)
    return curve


def simulated(process, data, settings):
    """[(z of the mean, z of the variance)] of x_t at the times: many joint paths of one datum, step by step."""
    start = data[:1].expand(settings.paths, -1).contiguous()
    path = process.sample_trajectory(start, generator(settings.seed, "gallery", "forward", "paths"))
    scores = []
    for t in shown_times(settings):
        mean, variance = (process.marginal(data[:1], t)[0], process.noise_variance[t])
        count = path[t].numel()
        z = (path[t] - mean) / variance.sqrt()
        scores.append((z.mean().item() * count**0.5, (z.square().mean().item() - 1) * (count / 2) ** 0.5))
    return scores


def simulation(schedule, scores, count):
    """Quantities: of [(z of the mean, z of the variance)] of ``count`` numbers, the largest errors and their standard errors.

    Of a mean in standard deviations, of a variance as a part of it; every z is an error over its standard error, which is
    the same at all times.
    """
    units = {"mean": ("in standard deviations", count**-0.5), "variance": ("relative", (2 / count) ** 0.5)}
    return {
        f"simulation_{name}_{schedule}": Quantity(
            f"simulated paths, {name} less the closed form's, {unit}, {schedule}: largest of {len(column)} times",
            [max(column, key=abs) * error],
            "",
            error,
        )
        for (name, (unit, error)), column in zip(units.items(), zip(*scores), strict=True)
    }


def clouds(process, data, settings):
    """{"cloud-t": [1000, 2]}: data on its way, for the figure."""
    noised, T = Noised(data, process), settings.timesteps
    times = sorted({max(1, round(fraction * T)) for fraction in (0.05, 0.15, 0.3, 0.6, 1)})
    clouds = {"cloud-0": data[:1000].float().contiguous()}
    for t in times:
        draw = generator(settings.seed, "gallery", "forward", "cloud", t)
        clouds[f"cloud-{t}"] = noised.sample(t, min(1000, settings.points), draw).float()
    return clouds
