"""Noise schedules: linear, cosine, and one that is learned with the bound."""

import torch

from mlegfn.data import scale_to_unit
from mlegfn.diffusion.likelihood import bound_table
from mlegfn.diffusion.schedules import betas
from mlegfn.networks.mlp import TimeMLP
from mlegfn.networks.unet import eps_network
from mlegfn.randomness import batch_indices
from reproduction.gallery.fitting import fit, initialised
from reproduction.gallery.images.model import build, train_images
from reproduction.gallery.points.monotone import MonotoneSchedule, gammas_of
from reproduction.gallery.points.problem import Problem
from reproduction.gallery.points.scheduled import FixedSchedule, Scheduled, bound_loss
from reproduction.gallery.station import Quantity, Result, Station

SCHEDULES = ("linear", "cosine", "learned")
NATS_PER_BIT = 0.6931471805599453


class Schedules(Station):
    """How fast the noise comes is a choice: β_t may rise linearly, or so that ᾱ_t falls like a squared cosine, or it may
    be learned. With infinitely many steps the bound depends on no more of a schedule than its ends (Kingma et al. 2021);
    with few, every step costs, and where the steps are placed matters. Here a monotone network holds
    log (1 − ᾱ_t)/ᾱ_t, both ends included, and descends the T-step bound together with the model; all three schedules
    get the same network, the same steps, and the same data and noise.
    """

    title = "Noise schedules: linear, cosine, learned"
    order = 3
    notes = "noise schedules; the learned β of the paper"

    @classmethod
    def run(cls, settings, inputs):
        starts = {"points": Points(settings), "images": Images(settings, inputs.images)}
        quantities, details, tensors = {}, {}, {}
        for name, start in starts.items():
            runs = {
                (schedule, seed): trained(start, schedule, settings, seed)
                for seed in settings.seeds
                for schedule in SCHEDULES
            }
            terms = {run: start.terms(model) for run, model in runs.items()}
            quantities |= quantities_of(name, start, terms, settings.seeds)
            details[name] = {
                "unit": start.unit,
                "parameters": sum(p.numel() for p in runs["learned", settings.seeds[0]].network.parameters()),
                "rho": {s: [runs[s, seed].rho.item() for seed in settings.seeds] for s in SCHEDULES},
            }
            for schedule in SCHEDULES:
                of_seeds = [runs[schedule, seed].schedule.betas() for seed in settings.seeds]
                tensors[f"{name}.{schedule}.betas"] = torch.stack(of_seeds)
                tensors[f"{name}.{schedule}.gammas"] = torch.stack([gammas_of(run) for run in of_seeds])
                tensors[f"{name}.{schedule}.terms"] = torch.stack(
                    [terms[schedule, seed].mean(1) for seed in settings.seeds]
                )
        return Result(quantities, details, tensors)


class Points:
    """A planar problem: fresh points, a bound on the density in the data's own units, nats."""

    unit = "nats"

    def __init__(self, settings):
        self.own, self.timesteps = settings.points, settings.timesteps
        self.problem = Problem.named(self.own.problem)
        self.test = self.problem.draw(self.own.test, 0, "schedules", "test")
        self.levels = None

    def network(self, seed):
        return initialised(
            lambda: TimeMLP(self.timesteps, self.own.hidden, self.own.layers), seed, "schedules"
        )

    def data(self, seed):
        return lambda step: self.problem.draw(self.own.batch, seed, "schedules", "train", step)

    def terms(self, scheduled):
        """[T+1, N] float64, nats: what L_0 … L_T of each test point add to its bound; L_0 in the data's units."""
        terms = bound_table(scheduled.model(), self.test, seed=0, batch=8192)[0]
        terms[0] -= self.problem.log_jacobian
        return terms


class Images:
    """The scale's images: a bound on their probability, bits a dimension."""

    unit = "bits/dim"

    def __init__(self, settings, images):
        self.own, self.shape = settings.images, images.shape
        self.train, self.levels = train_images(images), images.levels
        self.test = scale_to_unit(images.test_images, images.levels)[: self.own.test]

    def network(self, seed):
        return UNet(build(self.own, self.shape, seed))

    def data(self, seed):
        def draw(step):
            return self.train[batch_indices(seed, "schedules", step, self.own.batch, len(self.train))]

        return draw

    def terms(self, scheduled):
        """[T+1, N] float64, bits a dimension: what L_0 … L_T of each test image add to its bound."""
        terms = bound_table(scheduled.model(), self.test, seed=0)[0]
        return terms / (self.test[0].numel() * NATS_PER_BIT)


class UNet(torch.nn.Module):
    """(x, time) → v_θ of diffusers' network, whose answer is an object."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, x, time):
        return eps_network(self.unet)(x, time)


def schedule_of(name, settings):
    """The schedule's module. The learned one starts with the ends of the linear one, and straight between them."""
    fixed = betas(
        settings.timesteps, "linear" if name == "learned" else name, settings.beta_start, settings.beta_end
    )
    if name != "learned":
        return FixedSchedule(fixed)
    gammas = gammas_of(fixed)
    return MonotoneSchedule(settings.timesteps, settings.units, gammas[0].item(), gammas[-1].item())


def trained(start, schedule, settings, seed):
    """``Scheduled`` with averaged weights; data, times and noise of a step are those of every other schedule."""
    scheduled = Scheduled(start.network(seed), schedule_of(schedule, settings), start.levels)
    loss = bound_loss(scheduled, start.data(seed), start.own.batch, seed, "schedules")
    return fit(scheduled, loss, start.own.steps, start.own.optimizer, f"{schedule}, seed {seed}")


def quantities_of(name, start, terms, seeds):
    """The bound of each schedule, and how far the learned one is below each other, seed by seed."""
    nll = {run: values.sum(0).mean().item() for run, values in terms.items()}
    of = {schedule: [nll[schedule, seed] for seed in seeds] for schedule in SCHEDULES}
    measured = {
        f"{name}_{schedule}": Quantity(f"bound on the NLL of test {name}, {schedule}", values, start.unit)
        for schedule, values in of.items()
    }
    for other in SCHEDULES[:-1]:
        measured[f"{name}_learned_minus_{other}"] = Quantity(
            f"the same, learned minus {other}, seed by seed",
            [a - b for a, b in zip(of["learned"], of[other], strict=True)],
            start.unit,
        )
    return measured
