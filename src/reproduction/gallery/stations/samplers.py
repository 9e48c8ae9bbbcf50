"""Samplers that need few evaluations of a network, and the exact likelihood of the ODE behind them."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from mlegfn.data import scale_to_unit
from mlegfn.diffusion.likelihood import bound_table, epsilon_errors
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import analytic_log_variance, fixed_log_variance
from mlegfn.networks.unet import eps_network
from mlegfn.randomness import generator
from reproduction.gallery.fitting import with_weights
from reproduction.gallery.images.model import build, process_of, train_images
from reproduction.gallery.likelihood.flow import Clock, exact_divergence, hutchinson, log_prob
from reproduction.gallery.likelihood.remembered import Remembered
from reproduction.gallery.likelihood.solvers import SOLVERS, draw
from reproduction.gallery.likelihood.yardstick import Yardstick
from reproduction.gallery.station import Quantity, Result, Station


class Samplers(Station):
    """One network, many samplers. The ancestral chain takes T small random steps. DDIM keeps the marginals of every x_t
    and gives up the noise: with η = 0 its steps follow an ordinary differential equation, the probability flow, and can
    be long; solvers of higher order take longer ones still. The same equation carries densities along, so that it gives
    an exact log-likelihood, the integral of its divergence, where the chain of small steps has only a bound. Pixels lie on
    a lattice and have no density: for this comparison both get images to which uniform noise of a bin's width is added.
    """

    title = "Fast samplers and the probability flow"
    order = 7
    notes = "DDIM, higher-order solvers, the probability-flow ODE and its likelihood"
    reads = ("algorithms",)
    trained_once = True

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
        details = {"curves": curves, "evaluations": bits.evaluations, "start": bits.start}
        per_image = {name: getattr(bits, name) for name in ("chain", "flow", "exact")}
        return Result(quantities, details, {**tensors, **per_image})


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


def differences(measured, settings):
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
        one, two = (measured.get(f"distance_{sampler}") for sampler in (first, second))
        if one and two:
            values = [a - b for a, b in zip(one.values, two.values, strict=True)]
            descriptions = [quantity.what.split(": ")[1] for quantity in (one, two)]
            quantities[name] = Quantity(f"distance: {descriptions[0]}, less {descriptions[1]}", values)
    return quantities


def likelihoods(network, process, settings, images):
    """Bits/dim of test images, each [N]: ``bound`` and ``small``, L_0 + … + L_T of the chain with analytic variances and
    with β̃_t (Ho et al. 2020, eq. 5); then, of the images dequantised by uniform noise, ``chain`` and ``chain_small``, the
    bounds of those two chains, and ``flow`` and ``exact`` [n], by the ODE with Hutchinson's divergence and with the exact
    one. ``evaluations`` of the network by either solve, ``start``: the time at which the dequantised images enter.
    """
    seed, levels = settings.seeds[0], images.levels
    x0 = scale_to_unit(images.test_images[: settings.images], levels)
    known = train_images(images)[: settings.variance_images]
    small = DenoisingModel(network, process, fixed_log_variance(process, "small"), levels)
    errors = epsilon_errors(small, known, seed).mean(1)
    variances = {"small": small.log_variance, "analytic": analytic_log_variance(process, errors)}
    dequantised = dequantise(process, x0, levels, generator(seed, "gallery", "dequantised"))
    y, start = dequantised.y, dequantised.start
    bounds, chains, remembered = {}, {}, Remembered(network)
    for name, table in variances.items():
        bounds[name] = bound_table(DenoisingModel(remembered, process, table, levels), x0, seed)[0].sum(0)
        draw = generator(seed, "gallery", "path")
        chains[name] = path_log_weight(DenoisingModel(remembered, process, table), y, start, draw)
    clock = Clock(process)

    def eps(x, t):  # diffusers' embedding of the time is continuous: it takes fractions as they are
        return network(x, torch.full((len(x),), t - 1, dtype=torch.float32))

    def solve(count, divergence):
        return log_prob(eps, clock, y[:count], start, divergence, settings.tolerance)

    flow = solve(len(x0), hutchinson(generator(seed, "gallery", "probes"), settings.probes))
    exact = solve(settings.exact_images, exact_divergence)

    def bits(nll):
        return nll / (x0[0].numel() * math.log(2))

    return SimpleNamespace(
        bound=bits(bounds["analytic"]),
        small=bits(bounds["small"]),
        chain=bits(-chains["analytic"] - dequantised.log_volume),
        chain_small=bits(-chains["small"] - dequantised.log_volume),
        flow=bits(-flow.log_prob - dequantised.log_volume),
        exact=bits(-exact.log_prob - dequantised.log_volume),
        evaluations={"hutchinson": flow.evaluations, "exact": exact.evaluations},
        start=start,
    )


def compared(bits):
    """Quantities: means over images with their standard errors, and paired differences."""

    def mean_of(values, what):
        error = (values.std() / len(values) ** 0.5).item()
        count = len(values)
        return Quantity(f"{what}, {count} test images", [values.mean().item()], "bits/dim", error, count)

    of_dequantised = "NLL of dequantised images"
    return {
        "bits_small": mean_of(bits.small, "NLL of images: the chain's bound, β̃_t"),
        "bits_bound": mean_of(bits.bound, "NLL of images: the chain's bound, analytic variances"),
        "bits_chain_small": mean_of(bits.chain_small, f"{of_dequantised}: the chain's bound, β̃_t"),
        "bits_chain": mean_of(bits.chain, f"{of_dequantised}: the chain's bound, analytic variances"),
        "bits_flow": mean_of(bits.flow, f"{of_dequantised}: the probability flow, Hutchinson's divergence"),
        "bits_exact": mean_of(bits.exact, f"{of_dequantised}: the probability flow, exact divergence"),
        "flow_less_small": mean_of(
            bits.flow - bits.chain_small,
            f"{of_dequantised}: the probability flow, less the chain's bound with β̃_t",
        ),
        "flow_less_chain": mean_of(
            bits.flow - bits.chain,
            f"{of_dequantised}: the probability flow, less the chain's bound, analytic variances",
        ),
        "hutchinson_less_exact": mean_of(
            bits.flow[: len(bits.exact)] - bits.exact,
            f"{of_dequantised}: the probability flow, Hutchinson's divergence, less the exact one",
        ),
    }


@dataclass(frozen=True)
class Dequantised:
    """y [N, ...], to be read as x_t at t = ``start``, and log of the volume of a bin there, nats, so that

    log P(x_0) = log ∫_bin p(y) dy ≥ E_y[log p(y)] + log_volume   (Theis et al. 2016, arXiv 1511.01844, §3.1).
    """

    y: torch.Tensor
    start: int
    log_volume: float


def dequantise(process, x0, levels, generator):
    """``Dequantised`` of images x0 [N, ...] at ``levels`` grey values in [−1, 1]: with u uniform over a bin,
    y = √ᾱ_s (x_0 + u).

    A network trained on the lattice knows x_t only with the noise of t. s is the first t whose noise, relative to x_0, is as
    wide as u: √((1 − ᾱ_s)/ᾱ_s) ≥ 1/(√3 (levels − 1)). ValueError where no t has as much.
    """
    half = 1 / (levels - 1)
    wide = process.noise_std >= half / math.sqrt(3) * process.sqrt_alpha_bar
    if not wide[:-1].any():
        raise ValueError(f"no step of the chain before its last has the noise of a bin of {levels} levels")
    start = int(wide.nonzero()[0])
    u = half * (2 * torch.rand(x0.shape, generator=generator, dtype=x0.dtype) - 1)
    scale = process.sqrt_alpha_bar[start].item()
    return Dequantised(scale * (x0 + u), start, x0[0].numel() * math.log(2 * half * scale))


@torch.no_grad()
def path_log_weight(model, y, start, generator):
    """[N] float64, nats: log w of one joint noising path x_s = y, x_{s+1}, …, x_T of each y [N, ...], s = ``start``:

    log p(x_T) + Σ_{t>s} [log P_F(x_{t−1}|x_t) − log q(x_t|x_{t−1})]. Its mean bounds the chain's log p(x_s = y) from below.
    model: a DenoisingModel without levels. The noise is a function of the generator alone.
    """
    if model.levels is not None:
        raise ValueError("a density is bounded by a model without levels")
    log_w, process = torch.zeros(len(y), dtype=torch.float64), model.process
    for step in range(start + 1, model.timesteps + 1):
        before, t = y, torch.full((len(y),), step)
        noise = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        y = process.table("sqrt_alpha", t, y) * before + process.table("sqrt_beta", t, y) * noise
        log_w += model.log_pf(before, y, t).double() - model.log_pb(before, y, t).double()
    return log_w + model.log_prior(y).double()
