"""Annealed importance sampling of log p(x_0), beside the bound, the importance-weighted bound and the truth."""

import math

import torch

from mlegfn.data import scale_to_unit
from mlegfn.diffusion.likelihood import epsilon_errors
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.diffusion.variances import analytic_log_variance, fixed_log_variance
from mlegfn.networks.unet import eps_network
from mlegfn.randomness import generator
from reproduction.gallery.fitting import with_weights
from reproduction.gallery.images.model import build, process_of, train_images
from reproduction.gallery.likelihood.annealed import anneal, log_weight_of
from reproduction.gallery.likelihood.estimates import estimates, evenly
from reproduction.gallery.likelihood.linear import linear_log_prob, linear_model
from reproduction.gallery.likelihood.mixture import eight_gaussians
from reproduction.gallery.likelihood.quadrature import log_prob_by_quadrature
from reproduction.gallery.station import Quantity, Result, Station


class Annealing(Station):
    """A diffusion model's likelihood is a mean over noising paths, p(x_0) = E_q[w]. The bound takes the logarithm inside
    and loses log p(x_0) − E log w; the importance-weighted bound averages many independent paths. Annealing moves a path
    instead: from the noising process to the model's own posterior, along π_β ∝ q^(1−β) p^β, by Hamiltonian Monte Carlo
    on the noise that drives it, and multiplies the small weights on the way. The product is unbiased for p(x_0) whatever
    the schedule, so its logarithm is a lower bound on average. Where p(x_0) can be had exactly, all of this is checked.
    """

    title = "Annealed importance sampling"
    order = 5
    notes = "the likelihood as annealed importance sampling, the variational bound"
    reads = ("objectives",)
    trained_once = True

    @classmethod
    def run(cls, settings, inputs):
        quantities = {"linear_error": linear_check(settings)}
        points, truth, quadrature = planar(settings)
        images = digits(settings, inputs)
        quantities |= {
            "quadrature_error": quadrature,
            **compared(points, "points", "8gaussians", 1.0, "nats"),
            **compared(images, "images", "the images", images["dims"] * math.log(2), "bits/dim"),
        }
        last = points["annealed"][-1]["values"]
        quantities["points_truth_less_annealed"] = mean_of(
            truth - last, "log p of 8gaussians: by numerical integration, less annealed", "nats"
        )
        details = {
            "truth": truth.mean().item(),
            "points": curves(points, 1.0),
            "images": curves(images, images["dims"] * math.log(2)),
        }
        return Result(quantities, details)


def linear_check(settings):
    """Quantity: E[ŵ/p(x_0)] − 1, which is 0, for data N(0, 1/4) and a chain whose p(x_0) is known."""
    points = settings.points
    process = GaussianDiffusion(betas(points.timesteps, "linear", points.beta_start, points.beta_end))
    model = linear_model(process, 0.25, "large")
    draw = generator(settings.seed, "gallery", "annealing", "linear")
    x = 0.5 * torch.randn(points.repeats * 16, 2, generator=draw, dtype=torch.float64)
    noise = torch.randn(points.timesteps, *x.shape, generator=draw, dtype=torch.float64)
    count = points.temperatures[0]
    annealed = anneal(log_weight_of(model, x), noise, evenly(count), points.step, points.leapfrogs, draw)
    ratio = (annealed.log_w - linear_log_prob(model, x)).exp()
    return mean_of(
        ratio - 1,
        f"annealed p(x) over the exact p(x) of a linear-Gaussian chain, less 1: mean of {len(x)} annealings",
        "",
    )


def planar(settings):
    """(``estimates`` of points of 8gaussians, their true log p, what halving the grid's spacing changes).

    The network is the perfect one, in closed form; the chain's T steps are too few to be perfect.
    """
    points, data = settings.points, eight_gaussians()
    process = GaussianDiffusion(betas(points.timesteps, "linear", points.beta_start, points.beta_end))

    def eps(x, time):
        return data.eps(x, process.alpha_bar.to(x.dtype)[time + 1])

    model = DenoisingModel(eps, process, fixed_log_variance(process, "small"))
    known = data.sample(points.variance_points, generator(settings.seed, "gallery", "annealing", "variance"))
    errors = epsilon_errors(model, known, settings.seed, 4096).mean(1)
    model = DenoisingModel(eps, process, analytic_log_variance(process, errors))
    x = data.sample(points.data, generator(settings.seed, "gallery", "annealing", "points"))
    coarse, fine = (
        log_prob_by_quadrature(model, x, points.side, n) for n in (points.grid, 2 * points.grid - 1)
    )
    error = Quantity(
        "log p of 8gaussians by numerical integration: largest change when the spacing is halved",
        [(fine - coarse).abs().max().item()],
        "nats",
    )
    return estimates(model, x, points, (settings.seed, "gallery", "annealing", "8gaussians")), fine, error


def digits(settings, inputs):
    """``estimates`` of test images, under the station ``objectives``' network for L_simple on a chain of fewer steps."""
    images, block, before = inputs.images, settings.images, inputs.settings("objectives")
    network = with_weights(
        build(before, images.shape, before.seeds[0]), inputs.tensors("objectives"), "model"
    )
    process = process_of(before).respaced(block.timesteps)
    model = DenoisingModel(eps_network(network), process, fixed_log_variance(process, "small"), images.levels)
    errors = epsilon_errors(model, train_images(images)[: block.variance_images], settings.seed).mean(1)
    model = model.with_process(process, analytic_log_variance(process, errors))
    x = scale_to_unit(images.test_images[: block.data], images.levels)
    return estimates(model, x, block, (settings.seed, "gallery", "annealing", "images"))


def mean_of(values, what, unit, scale=1.0):
    """Quantity: the mean of values [N], with the standard error over data and over what was drawn for each."""
    values = values / scale
    error = (values.std() / len(values) ** 0.5).item()
    return Quantity(what, [values.mean().item()], unit, error, len(values))


def compared(measured, name, what, scale, unit):
    """Quantities of ``estimates``: the three bounds, and how far the others are below the annealed one at its cost."""
    annealed = measured["annealed"][-1]
    weighted = next(entry for entry in measured["weighted"] if entry["cost"] == annealed["cost"])
    return {
        f"{name}_bound": mean_of(measured["bound"], f"log p of {what}: the bound", unit, scale),
        f"{name}_weighted": mean_of(
            weighted["values"], f"log p of {what}: importance-weighted, {weighted['cost']} paths", unit, scale
        ),
        f"{name}_annealed": mean_of(
            annealed["values"],
            f"log p of {what}: annealed, at the cost of {annealed['cost']} paths",
            unit,
            scale,
        ),
        f"{name}_bound_less_annealed": mean_of(
            measured["bound"] - annealed["values"], f"log p of {what}: the bound, less annealed", unit, scale
        ),
        f"{name}_weighted_less_annealed": mean_of(
            weighted["values"] - annealed["values"],
            f"log p of {what}: importance-weighted, less annealed at equal cost",
            unit,
            scale,
        ),
        f"{name}_rejected": Quantity(
            f"annealing of {what}: share of proposals that were rejected",
            [1 - annealed["acceptance"].mean().item()],
        ),
    }


def curves(measured, scale):
    """What the figure draws of ``estimates``: costs and means, ``scale`` nats a unit."""

    def curve(entries):
        values = [entry["values"] / scale for entry in entries]
        return {
            "cost": [entry["cost"] for entry in entries],
            "mean": [value.mean().item() for value in values],
            "standard_error": [(value.std() / len(value) ** 0.5).item() for value in values],
        }

    last = measured["annealed"][-1]
    return {
        "weighted": curve(measured["weighted"]),
        "annealed": {
            **curve(measured["annealed"]),
            "temperatures": [e["temperatures"] for e in measured["annealed"]],
        },
        "path": (last["path"] / scale).tolist(),
    }
