"""Algorithms 1 and 2 of DDPM, each as short as in the notes, on images."""

import torch

from mlegfn.quality.sliced import sliced_wasserstein, unit_directions
from mlegfn.randomness import batch_indices, generator
from reproduction.gallery.fitting import fit, weights
from reproduction.gallery.images.model import build, model_of, test_images, train_images
from reproduction.gallery.station import Quantity, Result, Station


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
    trained_once = True

    @classmethod
    def run(cls, settings, inputs):
        dataset, log = inputs.images, []
        images = train_images(dataset)
        network = build(settings, dataset.shape, settings.seed)
        model = model_of(network, settings, dataset.levels)
        averaged = fit(
            network,
            algorithm_1(model, images, settings.batch, settings.seed),
            settings.steps,
            settings.optimizer,
            "Algorithm 1",
            log,
        )
        model = model_of(averaged, settings, dataset.levels)
        samples = algorithm_2(model, (settings.samples, *dataset.shape), settings.seed)
        return Result(
            {**compared(samples, images, test_images(dataset), settings), "loss_end": last_tenth(log)},
            {
                "loss": averaged_loss(log, max(1, settings.steps // 200)),
                "parameters": sum(p.numel() for p in averaged.parameters()),
            },
            {
                **weights(averaged, "model"),
                "samples": samples[:64],
                "data": test_images(dataset)[:64],
            },
        )


def compared(samples, train, test, settings):
    """Quantities: sliced distances to test images of samples, of training images and of noise, and their ratios.

    All sets have as many images. A ratio is measured on each of ``parts`` disjoint parts of them; its error is theirs.
    """
    count = min(settings.samples, len(test), len(train))
    draw = generator(settings.seed, "gallery", "algorithms", "distances")
    directions = unit_directions(test[0].numel(), settings.projections, draw)
    sets = {
        "": samples[:count].clamp(-1, 1),
        "_floor": train[torch.randperm(len(train), generator=draw)[:count]],
        "_noise": torch.randn(count, *test.shape[1:], generator=draw).clamp(-1, 1),
    }
    what = {"": "samples", "_floor": "training images", "_noise": "noise"}
    shuffled = test[torch.randperm(len(test), generator=draw)[:count]]

    def distances(rows):
        return {
            name: sliced_wasserstein(x[rows].flatten(1), shuffled[rows].flatten(1), directions)
            for name, x in sets.items()
        }

    parts = [distances(rows) for rows in torch.arange(count).chunk(settings.parts)]
    measured = {
        f"distance{name}": Quantity(f"sliced Wasserstein distance to test images: {what[name]}", [value])
        for name, value in distances(torch.arange(count)).items()
    }
    for name in ("_floor", "_noise"):
        ratios = torch.tensor([part[""] / part[name] for part in parts], dtype=torch.float64)
        measured[f"against{name}"] = Quantity(
            f"the distance of samples over that of {what[name]}, mean over {len(parts)} parts",
            [ratios.mean().item()],
            "",
            (ratios.std() / len(parts) ** 0.5).item(),
            len(parts),
        )
    return measured


def last_tenth(log):
    tail = torch.tensor([entry["loss"] for entry in log[-max(2, len(log) // 10) :]], dtype=torch.float64)
    return Quantity(
        "loss of a step, mean over the last tenth",
        [tail.mean().item()],
        "",
        (tail.std() / len(tail) ** 0.5).item(),
    )


def averaged_loss(log, every):
    """[{"step", "loss"}]: means over ``every`` steps."""
    parts = (log[k : k + every] for k in range(0, len(log), every))
    return [{"step": part[-1]["step"], "loss": sum(e["loss"] for e in part) / len(part)} for part in parts]
