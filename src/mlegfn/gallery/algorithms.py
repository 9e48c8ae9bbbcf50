"""Algorithms 1 and 2 of DDPM, each as short as in the notes, on images."""

import torch

from mlegfn.data import scale_to_unit
from mlegfn.gallery._images.model import build, model_of, train_images
from mlegfn.gallery.fitting import fit, weights
from mlegfn.gallery.station import Found, Quantity, Station
from mlegfn.quality.sliced import sliced_wasserstein, unit_directions
from mlegfn.randomness import batch_indices, generator


def algorithm_1(model, images, batch, seed):
    """Training (Ho et al. 2020, Algorithm 1): the loss of a step, ‖ε − ε_θ(√ᾱ_t x_0 + √(1 − ᾱ_t) ε, t)‖²."""

    def loss(step):
        draw = generator(seed, "gallery", "algorithm 1", step)
        # x_0 ~ q(x_0), t ~ Uniform{1, …, T}, ε ~ N(0, I)
        x_0 = images[batch_indices(seed, "algorithm 1", step, batch, len(images))]
        t = torch.randint(1, model.timesteps + 1, (batch,), generator=draw)
        eps = torch.randn(x_0.shape, generator=draw)
        x_t = model.process.noise(x_0, t, eps)
        return (eps - model.predict(x_t, t).eps).square().mean()

    return loss


@torch.no_grad()
def algorithm_2(model, shape, seed):
    """Sampling (Ho et al. 2020, Algorithm 2): x_T ~ N(0, I), then x_t−1 = μ_θ(x_t, t) + σ_t z; [N, C, H, W]."""
    draw = generator(seed, "gallery", "algorithm 2")
    x = torch.randn(shape, generator=draw)
    for t in range(model.timesteps, 0, -1):
        eps = model.predict(x, torch.full((len(x),), t)).eps
        mean = (x - model.process.mean_eps[t].item() * eps) / model.process.sqrt_alpha[t].item()
        z = torch.randn(shape, generator=draw) if t > 1 else 0.0
        x = mean + model.log_variance[t].exp().sqrt().item() * z
    return x


class Algorithms(Station):
    """Training is five lines: draw an image, a time and noise, and let the network say which noise it was. Sampling is
    the reverse: start from noise and take away, T times, a little of what the network says is noise. The other
    stations on images use this very network.
    """

    title = "Algorithms 1 and 2"
    order = 6
    notes = "training and sampling"
    images = True

    @classmethod
    def run(cls, settings, inputs):
        found, log = inputs.images, []
        images = train_images(found)
        network = build(settings, found.shape, settings.seed)
        model = model_of(network, settings, found.levels)
        averaged = fit(
            network,
            algorithm_1(model, images, settings.batch, settings.seed),
            settings.steps,
            settings.optimizer,
            "Algorithm 1",
            log,
        )
        model = model_of(averaged, settings, found.levels)
        samples = algorithm_2(model, (settings.samples, *found.shape), settings.seed)
        test = scale_to_unit(found.test_images, found.levels)[: settings.samples]
        directions = unit_directions(
            test[0].numel(), settings.projections, generator(settings.seed, "directions")
        )

        def distance(x):
            return sliced_wasserstein(x.clamp(-1, 1).flatten(1), test.flatten(1)[: len(x)], directions)

        floor = distance(images[generator_rows(settings, len(images))])
        noise = distance(torch.randn(test.shape, generator=generator(settings.seed, "noise")))
        every = max(1, settings.steps // 200)
        return Found(
            {
                "distance": Quantity(
                    "sliced Wasserstein distance of samples to test images", [distance(samples)]
                ),
                "distance_floor": Quantity("the same of training images", [floor]),
                "distance_noise": Quantity("the same of noise", [noise]),
                "loss_end": Quantity(
                    "loss of a step, mean over the last tenth",
                    [sum(e["loss"] for e in log[-max(1, len(log) // 10) :]) / max(1, len(log) // 10)],
                ),
            },
            {
                "loss": [
                    {"step": part[-1]["step"], "loss": sum(e["loss"] for e in part) / len(part)}
                    for part in (log[k : k + every] for k in range(0, len(log), every))
                ],
                "parameters": sum(p.numel() for p in averaged.parameters()),
            },
            {**weights(averaged, "model"), "samples": samples[:64], "data": test[:64]},
        )


def generator_rows(settings, count):
    """Which training images stand for fresh data in the floor."""
    return torch.randperm(count, generator=generator(settings.seed, "floor"))[: settings.samples]
