"""Evaluation of DDPM's 35.7 M U-Net in fp32, tf32 and bf16: states/s, and by how much bits/dim differ.

    python benchmarks/gpu/likelihood.py [--minutes 2] [--checkpoint FOLDER] [--tiny]

Speed: forward passes without a gradient at params.yaml's nll.batch. Precision: the likelihood terms of the
same images, times and noise in each precision, as stages compute them; the differences of their mean to fp32's
say which precision NLL may use. They depend on the weights, so give --checkpoint a trained one: with random
weights the terms are those of no model, and the JSON says so.
Writes <results>/gpu-likelihood.json, or cpu-likelihood.json where there is no GPU.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loops import SEED
from machine import finish, provenance
from network_cost import flops, unet_of
from setting import DEVICE, SHAPE, images_of, scale_of, synchronize

PRECISIONS = ("fp32", "tf32", "bf16") if DEVICE == "cuda" else ("fp32", "bf16")


def model_in(precision, options):
    """A ``DenoisingModel`` that evaluates in a precision: the checkpoint's, or one with random weights."""
    import torch

    from mlegfn.training.checkpoint import model_of, read_model
    from mlegfn.training.compute import place

    compute = (
        {"evaluation": precision} if DEVICE == "cuda" else {"evaluation": precision, "channels_last": False}
    )
    scale = scale_of(options.tiny, compute=compute, name=options.scale, params=options.params)
    if options.checkpoint:
        return read_model(options.checkpoint, scale, DEVICE)
    torch.manual_seed(SEED)
    return model_of(place(unet_of(scale, SHAPE, "cpu"), scale.compute, DEVICE).eval(), scale, 256)


def speed(model, batch, seconds):
    """States/s of forward passes, the median of some; at most about ``seconds`` long."""
    import torch

    x = torch.randn(batch, *SHAPE, device=DEVICE)
    t = torch.arange(batch, device=DEVICE) % model.timesteps + 1
    times, until = [], time.monotonic() + seconds
    with torch.no_grad():
        for _ in range(3 if DEVICE == "cuda" else 1):
            model.evaluate(x, t)
        while len(times) < 30 and (len(times) < 3 or time.monotonic() < until):
            synchronize()
            begun = time.perf_counter()
            model.evaluate(x, t)
            synchronize()
            times.append(time.perf_counter() - begun)
    return batch / median(times)


def terms_of(model, x0, times, batch):
    """[K, N] float64, nats: the likelihood terms of images x0 at ``times``; noise is one for all precisions."""
    import torch

    from mlegfn.randomness import generator

    rows = []
    with torch.no_grad():
        for t in times:
            noise = torch.randn(x0.shape, generator=generator(SEED, "precision", t))
            pieces = []
            for part in torch.arange(len(x0)).split(batch):
                x, eps = x0[part].to(DEVICE), noise[part].to(DEVICE)
                step = torch.full((len(part),), t, device=DEVICE)
                x_t = model.process.noise(x, step, eps)
                pieces.append(model.bound_terms(x, x_t, step, model.predict(x_t, step)).double().cpu())
            rows.append(torch.cat(pieces))
    return torch.stack(rows)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=2.0)
    arguments.add_argument("--params", default="params.yaml")
    arguments.add_argument("--scale", default="cifar10")
    arguments.add_argument("--checkpoint", help="a checkpoint of the scale, to see differences that count")
    arguments.add_argument("--images", type=int, default=256 if DEVICE == "cuda" else 4)
    arguments.add_argument("--times", type=int, default=50 if DEVICE == "cuda" else 8)
    arguments.add_argument("--batch", type=int, help="params.yaml's nll.batch if not given")
    arguments.add_argument("--data", help="folder data/<scale> with test images; random ones if not given")
    arguments.add_argument("--tiny", action="store_true", help="a tiny network: try the code out")
    arguments.add_argument("--results", help="folder; benchmarks/results if not given")
    options = arguments.parse_args()
    started, where = time.perf_counter(), provenance()

    import torch

    from mlegfn.data import load_images, scale_to_unit
    from mlegfn.training.device import device_of

    scale = scale_of(options.tiny, name=options.scale, params=options.params)
    device_of(scale)
    levels = load_images(options.data).test_images if options.data else images_of(options.images)
    x0 = scale_to_unit(levels[: options.images], 256)
    batch = options.batch or (scale.nll.batch if DEVICE == "cuda" else 4)
    T = scale.diffusion.timesteps
    # Evenly over t, with t = 1, the decoder's, and t = 2 among them: there the terms are largest.
    times = sorted({1, 2, *torch.linspace(1, T, min(options.times, T)).round().long().tolist()})
    # The bound is the terms' sum over all T times: the first two stand for themselves, the others for the rest.
    rest = (T - 2) / max(1, len(times) - 2)
    weights = torch.tensor([1.0 if t <= 2 else rest for t in times], dtype=torch.float64)
    dims = x0[0].numel() * math.log(2)
    rates, bits, peaks, exact = {}, {}, {}, None
    for precision in PRECISIONS:
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        model = model_in(precision, options)
        rates[precision] = speed(model, batch, 60 * options.minutes / 2 / len(PRECISIONS))
        terms = terms_of(model, x0, times, batch)
        peaks[precision] = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None
        exact = terms if exact is None else exact
        per_image = (weights @ (terms - exact)) / dims
        bits[precision] = {
            "bits_per_dim_of_these_terms": ((weights @ terms).mean() / dims).item(),
            "difference_to_fp32": per_image.mean().item(),
            "largest_difference_of_an_image": per_image.abs().max().item(),
            "difference_at_t": {
                str(t): ((terms - exact)[i].mean() / dims).item() for i, t in enumerate(times)
            },
        }
        print(
            f"{precision}: {rates[precision]:.1f} states/s, {per_image.mean().item():+.6f} bits/dim to fp32"
        )
        model = None
    return finish(
        "gpu-likelihood" if DEVICE == "cuda" else "cpu-likelihood",
        where,
        started,
        {},
        results=options.results,
        tiny=options.tiny,
        weights=f"checkpoint {Path(options.checkpoint).name}" if options.checkpoint else "random",
        images="test images" if options.data else "random levels",
        image_count=len(x0),
        times=times,
        batch=batch,
        states_per_second=rates,
        flops=flops(scale, SHAPE),
        peak_bytes=peaks,
        bits_per_dim=bits,
        rates={"evaluation": rates[scale.compute.evaluation if DEVICE == "cuda" else "fp32"]},
    )


if __name__ == "__main__":
    sys.exit(main())
