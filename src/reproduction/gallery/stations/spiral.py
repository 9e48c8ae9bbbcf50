"""Recovery of a spiral: noise and data, there and back, and the field that leads back."""

import torch

from mlegfn.data.mmd import mmd2_unbiased, mmd_floor
from mlegfn.data.planar import SWISSROLL_STD, swissroll_curve
from mlegfn.randomness import generator
from reproduction.gallery.fitting import fit
from reproduction.gallery.points.problem import Problem
from reproduction.gallery.points.simple import model_of, new_network, simple_loss
from reproduction.gallery.station import Quantity, Result, Station

FAR = 3  # standard deviations of the data's own noise about the curve
EXTENT = 2.7  # the fields are shown on [−EXTENT, EXTENT]², in the model's units


class Spiral(Station):
    """Points on a spiral are noised until nothing of the spiral is left, and a small network, trained by the loss of
    DDPM, learns to go back: from pure noise, step by step, to points on the spiral. The field μ_θ(x_t, t) − x_t says
    where the mean of the next reverse step lies. Far from the data it points inwards, in all directions alike, as long
    as there is much noise; with little noise left it points to the nearest arm.
    """

    title = "Recovery of a spiral"
    order = 2
    notes = "recovery of a spiral (Figure 4, after Sohl-Dickstein et al. 2015, Figure 1)"

    @classmethod
    def run(cls, settings, inputs):
        problem = Problem.named("swissroll")
        models = {seed: trained(problem, settings, seed) for seed in settings.seeds}
        drawn = {seed: sampled(model, settings.samples, seed, [0])[0] for seed, model in models.items()}
        first = models[settings.seeds[0]]
        return Result(
            compared(problem, drawn, settings),
            {
                "shown": shown_times(settings),
                "frames": frame_times(settings),
                "extent": EXTENT,
                "parameters": sum(p.numel() for p in first.network.parameters()),
            },
            pictures(problem, first, settings),
        )


def trained(problem, settings, seed):
    """P_F with the averaged weights of a network that L_simple trained."""
    network = new_network(settings, seed, "spiral")
    loss = simple_loss(model_of(network, settings), problem, settings.batch, seed, "spiral")
    averaged = fit(network, loss, settings.steps, settings.optimizer, f"spiral, seed {seed}")
    return model_of(averaged, settings)


def sampled(model, count, seed, times):
    """[K, count, 2]: x_t of one ancestral path a sample, at the K times (Ho et al. 2020, Algorithm 2)."""
    return model.sample_pf((count, 2), generator(seed, "gallery", "spiral", "sample"), keep=times)


@torch.no_grad()
def displacement(model, x, t):
    """[N, 2]: μ_θ(x, t) − x, how far the mean of p_θ(x_{t−1}|x_t = x) lies from x [N, 2]; t in 1…T.

    μ_θ(x, t) = (x − β_t/√(1 − ᾱ_t) ε_θ(x, t))/√α_t (Ho et al. 2020, eq. 11); Sohl-Dickstein et al. 2015 draw the
    same difference. ValueError for another t.
    """
    if not 1 <= t <= model.timesteps:
        raise ValueError(f"a reverse step starts at t in 1…{model.timesteps}, not at {t}")
    times = torch.full((len(x),), t)
    return model.process.reverse_mean(x, times, model.predict(x, times).eps) - x


def off_curve(points):
    """[N] bool: which points [N, 2], in the data's units, lie farther than 3σ from the curve of the roll."""
    angle = torch.linspace(1.5 * torch.pi, 4.5 * torch.pi, 2000, dtype=torch.float64)
    return torch.cdist(points.double(), swissroll_curve(angle)).min(1).values > FAR * SWISSROLL_STD


def compared(problem, drawn, settings):
    """Quantities of ``drawn`` {seed: samples [N, 2]}, each seed against fresh data of its own."""
    count = settings.samples

    def data(*key):
        return problem.to_data(problem.draw(count, 0, "spiral", *key))

    floor = mmd_floor(lambda _, k: data("floor", k), count, settings.repeats)
    mmd, noise, far = [], [], []
    for seed, samples in drawn.items():
        fresh, samples = data("fresh", seed), problem.to_data(samples)
        start = torch.randn(count, 2, generator=generator(seed, "gallery", "spiral", "x_T"))
        mmd.append(mmd2_unbiased(samples, fresh))
        noise.append(mmd2_unbiased(problem.to_data(start), fresh))
        far.append((off_curve(samples).double().mean() - off_curve(fresh).double().mean()).item())
    return {
        "mmd": Quantity(f"MMD² of {count} samples to as many fresh data", mmd),
        "mmd_noise": Quantity("the same of the noise they started from", noise),
        "mmd_floor": Quantity(
            f"the same of data to data, 95 % quantile of {settings.repeats}", [floor["quantile_95"]]
        ),
        "above_floor": Quantity(
            "MMD² of samples above that quantile, as a share of the noise's",
            [(a - floor["quantile_95"]) / b for a, b in zip(mmd, noise, strict=True)],
        ),
        "off_curve": Quantity(f"share of samples farther than {FAR} σ from the curve, minus the data's", far),
    }


def shown_times(settings):
    """Times 0…T of the figure's columns, close together at the beginning, where the spiral is lost."""
    fractions = torch.linspace(0, 1, settings.columns, dtype=torch.float64) ** 2
    return (fractions * settings.timesteps).round().long().unique().tolist()


def frame_times(settings):
    """Times T…0 of the animation's frames."""
    fractions = torch.linspace(1, 0, settings.frames, dtype=torch.float64) ** 1.5
    return (fractions * settings.timesteps).round().long().unique().flip(0).tolist()


def pictures(problem, model, settings):
    """What is drawn, float32 in the model's units.

    data [K, N, 2] and model [K, N, 2]: one joint path a point, at the K shown times; frames [F, N, 2]: the reverse
    paths at the frames' times; field [K, G, G, 2] and frame_field [F, G, G, 2]: ``displacement`` at grid [G, G, 2],
    at t = 1 where the time is 0, as no reverse step starts there.
    """
    shown, frames, count = shown_times(settings), frame_times(settings), settings.points
    start = problem.draw(count, 0, "spiral", "shown")
    path = model.process.sample_trajectory(start, generator(0, "gallery", "spiral", "noising"))
    times = sorted({*shown, *frames})
    back = dict(zip(times, sampled(model, count, settings.seeds[0], times), strict=True))
    axis = torch.linspace(-EXTENT, EXTENT, settings.grid)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    field = {t: displacement(model, grid.flatten(0, 1), max(t, 1)).view_as(grid) for t in times}
    return {
        "data": path[shown],
        "model": torch.stack([back[t] for t in shown]),
        "frames": torch.stack([back[t] for t in frames]),
        "grid": grid,
        "field": torch.stack([field[t] for t in shown]),
        "frame_field": torch.stack([field[t] for t in frames]),
    }
