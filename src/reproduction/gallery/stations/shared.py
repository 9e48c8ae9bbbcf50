"""What x_t already decides: samples that share it, and images between two images through it."""

import math

import torch

from mlegfn.randomness import generator
from reproduction.gallery.images.chain import descend
from reproduction.gallery.images.judging import Classifier, agreement, pairwise_distance
from reproduction.gallery.images.model import shortened, test_images, train_images, trained
from reproduction.gallery.station import Quantity, Result, Station


class Shared(Station):
    """Samples that branch off from one x_t share what x_t has decided. At t = T that is nothing: they differ as much as
    independent samples do; the smaller t is, the more alike they are, down to the details. Two images can be mixed at
    such a level: noised to x_t, mixed there and denoised, they give images between them that look like data, which
    the mean of their pixels does not.
    """

    title = "Shared latents and interpolation"
    order = 9
    notes = "what is decided at x_t; interpolation"
    reads = ("algorithms",)
    trained_once = True

    @classmethod
    def run(cls, settings, inputs):
        dataset = inputs.images
        model = shortened(trained(inputs), settings.sampling_steps)
        times = {round(100 * part): round(part * model.timesteps) for part in settings.fractions}
        data = train_images(dataset)
        judge = Classifier(data, dataset.train_labels)
        measured, tensors = [], {}
        for seed in settings.seeds:
            groups = families(model, (settings.starts, *dataset.shape), times, settings.siblings, seed)
            mixed = interpolations(
                model, *pairs(dataset, settings.pairs, seed), times, settings.mixtures, seed
            )
            measured.append({**likeness(groups, judge), **between(mixed, data)})
            if seed == settings.seeds[0]:
                tensors = {f"siblings-{name}": images[:4].contiguous() for name, images in groups.items()}
                tensors |= {f"mixed-{name}": images[:4].contiguous() for name, images in mixed.items()}
        values = {name: [numbers[name] for numbers in measured] for name in measured[0]}
        return Result(
            quantities(values, list(times)), {"percent": list(times), "times": list(times.values())}, tensors
        )


def quantities(values, percent):
    """Of {name: a value a seed}: what the claims speak about."""
    measured = {}
    for at in ["independent", *percent]:
        where = "independent samples" if at == "independent" else f"samples that share x_t, t = {at} % of T"
        measured[f"distance_{at}"] = Quantity(
            f"mean distance of two {where}", values[f"distance_{at}"], "of [−1, 1]"
        )
        measured[f"same_class_{at}"] = Quantity(
            f"share of pairs of one class, {where}", values[f"same_class_{at}"]
        )

    def gap(name, a, b):
        return [x - y for x, y in zip(values[f"{name}_{a}"], values[f"{name}_{b}"], strict=True)]

    for late, early in zip(percent, percent[1:]):
        measured[f"distance_{early}_minus_{late}"] = Quantity(
            f"distance of samples that share x_t: t = {early} % of T minus {late} %",
            gap("distance", early, late),
            "of [−1, 1]",
        )
    lost = zip(gap("distance", "independent", percent[0]), values["distance_independent"], strict=True)
    measured["diversity_lost"] = Quantity(
        f"part of the diversity that sharing x_t at t = {percent[0]} % of T costs", [a / b for a, b in lost]
    )
    for at in percent:
        measured[f"reconstruction_{at}"] = Quantity(
            f"distance of an image that went to {at} % of T and back from itself",
            values[f"reconstruction_{at}"],
        )
    for at in ["pixels", *percent]:
        how = "mean of their pixels" if at == "pixels" else f"image between them by x_t, t = {at} % of T"
        measured[f"nearest_{at}"] = Quantity(
            f"two images' {how}: distance to the nearest training image", values[f"nearest_{at}"]
        )
        if at != "pixels":
            measured[f"nearest_{at}_minus_pixels"] = Quantity(
                f"distance to the nearest training image: {how}, minus that of the mean of their pixels",
                gap("nearest", at, "pixels"),
                "of [−1, 1]",
            )
    return measured


def trunks(model, shape, times, draw):
    """{name: x_t [N, ...]} of N paths from x_T at ``times`` {name: t, falling}: each the same path, further down."""
    at, x, reached = model.timesteps, torch.randn(shape, generator=draw), {}
    for name, t in times.items():
        x, at = descend(model, x, at, draw, stop=t), t
        reached[name] = x
    return reached


def branches(model, x_t, t, count, draw, watch=None):
    """[N, count, ...]: ``count`` samples x_0 from each x_t [N, ...], which they share."""
    shared = x_t.repeat_interleave(count, 0)
    return descend(model, shared, t, draw, watch=watch).clamp(-1, 1).unflatten(0, (len(x_t), count))


def families(model, shape, times, siblings, seed):
    """{"independent" or name: [N, siblings, ...]}: samples that share nothing, or x_t."""
    draw = generator(seed, "gallery", "shared")
    states = trunks(model, shape, times, draw)
    groups = {name: branches(model, states[name], t, siblings, draw) for name, t in times.items()}
    alone = torch.randn(shape[0] * siblings, *shape[1:], generator=draw)
    return {
        "independent": branches(model, alone, model.timesteps, 1, draw).view(-1, siblings, *shape[1:])
    } | groups


def likeness(groups, judge):
    """Mean over the groups of their members' distance, and of the share of pairs of one class."""
    numbers = {}
    for name, group in groups.items():
        numbers[f"distance_{name}"] = sum(map(pairwise_distance, group)) / len(group)
        classes = judge.classes(group.flatten(0, 1)).view(group.shape[:2])
        numbers[f"same_class_{name}"] = sum(map(agreement, classes)) / len(group)
    return numbers


def pairs(images, count, seed):
    """Two tensors [count, C, H, W] of test images; the two of a pair have different labels, if there are such pairs."""
    shuffled = torch.randperm(
        len(images.test_labels), generator=generator(seed, "gallery", "shared", "pairs")
    )
    first, second = shuffled, shuffled.roll(1)
    differ = images.test_labels[first] != images.test_labels[second]
    chosen = torch.argsort(~differ, stable=True)[:count]
    data = test_images(images)
    return data[first[chosen]], data[second[chosen]]


def mixture(process, first, second, t, weights, draw):
    """[N, K, ...]: x_t between noised images [N, ...], λ in ``weights`` [K]:

    √ᾱ_t ((1 − λ) x + λ x′) + √(1 − ᾱ_t) (cos(πλ/2) ε + sin(πλ/2) ε′)

    DDPM (Figure 8) mixes x_t and x′_t on a line, on which independent noises would lose half of their variance at
    λ = ½, so that the network would meet states that it has never seen; on the circle they keep it.
    """
    lam = weights.view(1, -1, *[1] * (first.ndim - 1)).to(first)
    eps = torch.randn(2, *first.shape, generator=draw, dtype=first.dtype)
    noise = (math.pi / 2 * lam).cos() * eps[0][:, None] + (math.pi / 2 * lam).sin() * eps[1][:, None]
    image = (1 - lam) * first[:, None] + lam * second[:, None]
    return process.sqrt_alpha_bar[t].item() * image + process.noise_std[t].item() * noise


def interpolations(model, first, second, times, count, seed):
    """{name: [N, count + 2, ...]}: a pair's first image, the samples from mixtures at t, and its second image.

    The samples of one pair get the same noise on their way, so that they differ by λ alone.
    """
    weights, decodings = torch.linspace(0, 1, count), {}
    for name, t in times.items():
        draw = generator(seed, "gallery", "shared", "mixtures", name)
        x_t = mixture(model.process, first, second, t, weights, draw)
        decoded = descend(model, x_t.flatten(0, 1), t, draw, alike=count).clamp(-1, 1)
        decodings[name] = torch.cat([first[:, None], decoded.unflatten(0, x_t.shape[:2]), second[:, None]], 1)
    return decodings


def between(mixed, data):
    """Means over pairs: how far both ends come back from themselves, how far middles are from the nearest of ``data``."""

    def nearest(x):
        return torch.cdist(x.flatten(1), data.flatten(1)).amin(1).mean().item() / data[0].numel() ** 0.5

    ends = next(iter(mixed.values()))[:, [0, -1]]
    numbers = {"nearest_pixels": nearest(ends.mean(1))}
    for name, decoded in mixed.items():
        gap = (decoded[:, [1, -2]] - ends).flatten(2)
        numbers[f"reconstruction_{name}"] = gap.square().mean(2).sqrt().mean().item()
        numbers[f"nearest_{name}"] = nearest(decoded[:, decoded.shape[1] // 2])
    return numbers
