"""Samplers that need few evaluations of a network, and the exact likelihood of the ODE behind them."""

import math
from types import SimpleNamespace

import torch

from mlegfn.data import scale_to_unit
from mlegfn.diffusion.likelihood import bound_table, epsilon_errors
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import normal_log_prob
from mlegfn.diffusion.variances import analytic_log_variance, fixed_log_variance
from mlegfn.gallery._images.model import build, process_of, train_images
from mlegfn.gallery._likelihood.flow import Clock, exact_divergence, hutchinson, log_prob
from mlegfn.gallery._likelihood.remembered import Remembered
from mlegfn.gallery._likelihood.solvers import SOLVERS, draw
from mlegfn.gallery._likelihood.yardstick import Yardstick
from mlegfn.gallery.fitting import with_weights
from mlegfn.gallery.station import Found, Quantity, Station
from mlegfn.networks.unet import eps_network
from mlegfn.randomness import generator


class Samplers(Station):
    """One network, many samplers. The ancestral chain takes T small random steps. DDIM keeps the marginals of every x_t
    and gives up the noise: with η = 0 its steps follow an ordinary differential equation, the probability flow, and can
    be long; solvers of higher order take longer ones still. The same equation carries densities along, so that it gives
    an exact log-likelihood, the integral of its divergence, where the chain of small steps has only a bound.
    """

    title = "Fast samplers and the probability flow"
    order = 7
    notes = "DDIM, higher-order solvers, the probability-flow ODE and its likelihood"
    reads = ("algorithms",)
    images = True

    @classmethod
    def run(cls, settings, inputs):
        before, images = inputs.settings("algorithms"), inputs.images
        network = eps_network(
            with_weights(build(before, images.shape, before.seed), inputs.tensors("algorithms"), "model")
        )
        process = process_of(before)
        curves, quantities, tensors = sampled(network, process, settings, images)
        bits = likelihoods(network, process, settings, images)
        quantities |= compared(bits)
        details = {"curves": curves, "evaluations": bits.evaluations, "shown": settings.evaluations[0]}
        per_image = {name: getattr(bits, name) for name in ("bound", "flow", "exact")}
        return Found(quantities, details, {**tensors, **per_image})


def sampled(network, process, settings, images):
    """(curves of distance against evaluations, Quantities, samples to show), every sampler with every seed."""
    yardsticks = {
        seed: Yardstick(images, settings.samples, settings.projections, seed) for seed in settings.seeds
    }
    curves, quantities, tensors = {}, {}, {}
    for name in settings.solvers:
        curves[name] = []
        counts = [*settings.evaluations, *([process.timesteps] if name == "ancestral" else [])]
        for count in counts:
            values = []
            for seed, yardstick in yardsticks.items():
                noise = generator(seed, "gallery", "samplers")
                x, spent = draw(name, network, process, (settings.samples, *images.shape), count, noise)
                values.append(yardstick.distance(x))
                if seed == settings.seeds[0] and count in (settings.evaluations[0], process.timesteps):
                    tensors[f"samples-{name}-{count}"] = x[:16]
            curves[name].append({"evaluations": spent, "distances": values})
            quantities[f"distance_{name}_{count}"] = Quantity(
                f"sliced Wasserstein distance to test images: {SOLVERS[name].title}, {spent} evaluations",
                values,
            )
    quantities["distance_floor"] = Quantity(
        "the same of training images", [yardstick.floor() for yardstick in yardsticks.values()]
    )
    return curves, quantities | differences(quantities, settings), tensors


def differences(found, settings):
    """Quantities: one sampler's distance less another's, seed by seed, where there are both."""
    few, many = settings.evaluations[0], settings.evaluations[-1]
    middle = settings.evaluations[len(settings.evaluations) // 2]
    pairs = {
        "ddim_less_ancestral": (f"ddim_{middle}", f"ancestral_{middle}"),
        "ddim_less_noisy": (f"ddim_{middle}", f"ddim_1_{middle}"),
        "dpm_less_ddim": (f"dpm_{few}", f"ddim_{few}"),
        "dpm_less_many": (f"dpm_{middle}", f"ddim_{many}"),
    }
    quantities = {}
    for name, (first, second) in pairs.items():
        one, two = (found.get(f"distance_{each}") for each in (first, second))
        if one and two:
            values = [a - b for a, b in zip(one.values, two.values, strict=True)]
            said = [each.what.split(": ")[1] for each in (one, two)]
            quantities[name] = Quantity(f"distance: {said[0]}, less {said[1]}", values)
    return quantities


def likelihoods(network, process, settings, images):
    """Bits/dim [N] of test images: ``bound`` of the chain with the analytic variances, ``small`` with β̃_t, ``flow`` by the ODE with Hutchinson's divergence, ``exact`` [n]
    with the exact one, of the first images; ``evaluations`` of the network by either solve.

    The images are on a lattice, where an ODE has no density to give, so noise dequantises them: for every s,

        −log P(x_0) ≤ L_0 + … + L_{s−1} + KL(q(x_s | x_0) ‖ p_s),

    the bound (Ho et al. 2020, eq. 5) of a chain of s steps with p_s for its prior. The chain's own bound has
    L_s + … + L_T in place of the KL; the ODE has the density p_s(x_s) itself, at one x_s ~ q an image.
    """
    x0 = scale_to_unit(images.test_images[: settings.images], images.levels)
    remembered, start, seed = Remembered(network), settings.start, settings.seeds[0]
    small = DenoisingModel(network, process, fixed_log_variance(process, "small"), images.levels)
    errors = epsilon_errors(small, train_images(images)[: settings.variance_images], seed).mean(1)
    tables = [
        bound_table(DenoisingModel(remembered, process, variances, images.levels), x0, seed)[0]
        for variances in (small.log_variance, analytic_log_variance(process, errors))
    ]
    terms = tables[1]
    x_s = process.noise(x0, start, torch.randn(x0.shape, generator=generator(seed, "gallery", "flow")))
    mean, variance = process.marginal(x0.double(), start)
    known = terms[:start].sum(0) + normal_log_prob(x_s.double(), mean, variance.log())
    clock = Clock(process)

    def eps(x, t):  # diffusers' embedding of the time is continuous: it takes fractions as they are
        return network(x, torch.full((len(x),), t - 1, dtype=torch.float32))

    def solve(count, divergence):
        return log_prob(eps, clock, x_s[:count], start, divergence, settings.tolerance)

    flow = solve(len(x0), hutchinson(generator(seed, "gallery", "probes"), settings.probes))
    exact = solve(settings.exact_images, exact_divergence)
    bits = x0[0].numel() * math.log(2)
    return SimpleNamespace(
        small=tables[0].sum(0) / bits,
        bound=terms.sum(0) / bits,
        flow=(known - flow.log_prob) / bits,
        exact=(known[: settings.exact_images] - exact.log_prob) / bits,
        evaluations={"hutchinson": flow.evaluations, "exact": exact.evaluations},
    )


def compared(bits):
    """Quantities: means over images with their standard errors, and paired differences."""

    def mean_of(values, what):
        error = (values.std() / len(values) ** 0.5).item()
        return Quantity(f"{what}, {len(values)} test images", [values.mean().item()], "bits/dim", error)

    count = len(bits.exact)
    trace = bits.flow[:count] - bits.exact
    z = (trace.mean().abs() / (trace.std() / count**0.5)).item()
    return {
        "bits_small": mean_of(bits.small, "NLL: the chain's bound, σ² = β̃_t"),
        "bits_bound": mean_of(bits.bound, "NLL: the chain's bound, analytic variances"),
        "bits_flow": mean_of(bits.flow, "NLL: the probability flow, Hutchinson's divergence"),
        "bits_exact": mean_of(bits.exact, "NLL: the probability flow, exact divergence"),
        "flow_less_bound": mean_of(
            bits.flow - bits.bound, "NLL: the probability flow, less the chain's bound"
        ),
        "hutchinson_z": Quantity("Hutchinson's NLL less the exact one: |z| of the mean over images", [z]),
    }
