"""Classifier-free guidance: fidelity against diversity as the weight grows."""

import torch

from mlegfn.errors import UserError
from mlegfn.quality.sliced import sliced_wasserstein, unit_directions
from mlegfn.randomness import batch_indices, generator
from reproduction.gallery.fitting import fit
from reproduction.gallery.images.guided import Labelled, build_labelled
from reproduction.gallery.images.judging import Classifier, pairwise_distance
from reproduction.gallery.images.model import process_of, test_images, train_images
from reproduction.gallery.station import Quantity, Result, Station


class Guidance(Station):
    """One network learns the noise with the label and, where the label is hidden, without. Guidance goes further from
    the latter than the former does: ε = ε_c + w (ε_c − ε_u), an extrapolation for w > 0. Samples then show their class
    more clearly, and are more like each other: accuracy is bought with diversity, and too much of it leaves the data.
    """

    title = "Classifier-free guidance"
    order = 11
    notes = "guidance"
    trained_once = True

    @classmethod
    def run(cls, settings, inputs):
        images, log = inputs.images, []
        data, classes = train_images(images), images.classes
        network = build_labelled(settings, images.shape, classes, settings.seed)
        averaged = fit(
            network,
            training(labelled(network, settings, images), data, images.train_labels, settings),
            settings.steps,
            settings.optimizer,
            "guidance",
            log,
        )
        model, judge = labelled(averaged, settings, images), Classifier(data, images.train_labels)
        labels = torch.arange(classes).repeat_interleave(settings.per_class)
        draw = generator(settings.seed, "gallery", "guidance", "real images")
        real = of_each_class(test_images(images), images.test_labels, classes, settings.per_class, draw)
        fresh = of_each_class(data, images.train_labels, classes, settings.per_class, draw)
        draw = generator(settings.seed, "gallery", "guidance", "directions")
        directions, tensors = unit_directions(data[0].numel(), settings.projections, draw), {}
        values = {
            (name, "data"): [value] for name, value in judged(real, labels, real, judge, directions).items()
        }
        values["distance", "data"] = [judged(fresh, labels, real, judge, directions)["distance"]]
        for w in settings.weights:
            for seed in settings.seeds:
                # The same noise for every w, so that what differs is its doing.
                draw = generator(seed, "gallery", "guidance", "sampling")
                chain = model.model(labels, w, settings.sampling_steps)
                x = chain.sample_pf((len(labels), *images.shape), draw, keep=[0])[0].clamp(-1, 1)
                for name, value in judged(x, labels, real, judge, directions).items():
                    values.setdefault((name, w), []).append(value)
                if seed == settings.seeds[0]:
                    tensors[f"w={w:g}"] = x.view(classes, settings.per_class, *images.shape)[:, :6].flatten(
                        0, 1
                    )
        return Result(
            quantities(values, settings.weights, judge.accuracy(test_images(images), images.test_labels)),
            {
                "loss": sum(entry["loss"] for entry in log[-100:]) / len(log[-100:]),
                "classes": classes,
                "weights": {key(w): w for w in settings.weights},
            },
            tensors,
        )


def labelled(network, settings, images):
    """``Labelled`` around a U-Net of diffusers."""
    return Labelled(
        lambda x, time, y: network(x, time, class_labels=y, return_dict=False)[0],
        process_of(settings),
        images.classes,
        images.levels,
    )


def training(model, data, labels, settings):
    """loss(step) of ``fit``: DDPM's, with a label hidden with probability ``label_dropout``."""

    def loss(step):
        draw, batch = generator(settings.seed, "gallery", "guidance", step), settings.batch
        rows = batch_indices(settings.seed, "guidance", step, batch, len(data))
        t = torch.randint(1, settings.timesteps + 1, (batch,), generator=draw)
        eps = torch.randn(batch, *data.shape[1:], generator=draw)
        hidden = torch.rand(batch, generator=draw) < settings.label_dropout
        return model.loss(data[rows], t, eps, labels[rows], hidden)

    return loss


def of_each_class(images, labels, classes, count, draw):
    """[classes·count, ...]: ``count`` random images of each class, in the classes' order; UserError if there are fewer.

    Not the first ones: data often come writer by writer.
    """
    shuffled = torch.randperm(len(labels), generator=draw)
    rows = [shuffled[labels[shuffled] == label][:count] for label in range(classes)]
    if short := [label for label, members in enumerate(rows) if len(members) < count]:
        raise UserError(
            f"params/gallery.yaml: gallery.guidance.per_class: {count} images of each class are compared, but class {short[0]} "
            f"has {len(rows[short[0]])} in a split; lower it"
        )
    return images[torch.cat(rows)]


def judged(x, labels, real, judge, directions):
    """Accuracy, mean distance of two samples of one class, and sliced distance to ``real`` of the same labels."""
    groups = x.view(len(labels.unique()), -1, *x.shape[1:])
    return {
        "accuracy": judge.accuracy(x, labels),
        "diversity": sum(map(pairwise_distance, groups)) / len(groups),
        "distance": sliced_wasserstein(x.flatten(1), real.flatten(1), directions),
    }


def quantities(values, weights, judge_accuracy):
    """What the claims speak about, of {(name, w or "data"): a value a seed}."""
    what = {
        "accuracy": ("share of samples that an independent classifier gives their label", "", "test images"),
        "diversity": ("mean distance of two samples of one class", "of [−1, 1]", "test images"),
        "distance": ("sliced Wasserstein distance to test images", "of [−1, 1]", "training images"),
    }
    measured = {"judge": Quantity("accuracy of the classifier on all test images", [judge_accuracy])}
    for name, (text, unit, real) in what.items():
        measured[f"{name}_data"] = Quantity(f"{text}: {real}", values[name, "data"], unit)
        for w in weights:
            at = f"w = {w:g}".replace("-", "−")
            measured[f"{name}_{key(w)}"] = Quantity(f"{text}: {at}", values[name, w], unit)
            if w not in (0, -1):
                pairs = zip(values[name, w], values[name, 0.0], strict=True)
                sign = -1 if name == "accuracy" else 1
                order = ("w = 0", at) if sign < 0 else (at, "w = 0")
                measured[f"{name}_{key(w)}_against_0"] = Quantity(
                    f"{text}: {order[0]} minus {order[1]}", [sign * (a - b) for a, b in pairs], unit
                )
    return measured


def key(w):
    """w in a quantity's name: −1 is "minus_1", 0.5 is "0_5"."""
    return f"{w:g}".replace("-", "minus_").replace(".", "_")
