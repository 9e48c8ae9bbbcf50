"""Inpainting with an unconditional model: replacement against RePaint's resampling."""

import torch

from mlegfn.quality.sliced import sliced_wasserstein, unit_directions
from mlegfn.randomness import generator
from reproduction.gallery.images.filling import KNOWN, filled, known_part, seam
from reproduction.gallery.images.gaussian import gaussian_model
from reproduction.gallery.images.judging import Classifier
from reproduction.gallery.images.model import shortened, test_images, train_images, trained
from reproduction.gallery.station import Quantity, Result, Station

ARMS = {
    "replaced": "replacement",
    "replaced_long": "replacement, as many evaluations",
    "resampled": "resampling",
}


class Inpainting(Station):
    """A model that knows nothing of conditions can fill a missing part: at each step the known pixels are replaced by
    noised ones of the image. The filled part then fits the whole badly, because each step looks at known pixels only
    after it was drawn. Going back a few steps and repeating them, as RePaint does, lets the parts agree. On a Gaussian,
    whose conditional law is known, replacement is off, and resampling approaches it.
    """

    title = "Inpainting"
    order = 10
    notes = "conditioning without training"
    reads = ("algorithms",)
    trained_once = True

    @classmethod
    def run(cls, settings, inputs):
        images, model = inputs.images, trained(inputs)
        judge = Classifier(train_images(images), images.train_labels)
        data, labels = test_images(images)[: settings.images], images.test_labels[: settings.images]
        values, tensors = {}, {"data": data[:10]}
        for known in settings.known:
            mask = known_part(known, images.shape)
            tensors[f"{known}-known"] = mask
            values["seam", known, "data"] = [seam(data, mask)]
            for seed in settings.seeds:
                for arm, x in arms(model, data, mask, settings, (known, seed)).items():
                    if seed == settings.seeds[0]:
                        tensors[f"{known}-{arm}"] = x[:10]
                    for name, value in judged(x, data, labels, mask, judge, settings).items():
                        values.setdefault((name, known, arm), []).append(value)
        gaussian = on_a_gaussian(model.process, settings)
        measured = quantities(values, settings.known)
        measured["accuracy_data"] = Quantity(
            "accuracy of the classifier on the whole images", [judge.accuracy(data, labels)]
        )
        plain, best = gaussian[0], gaussian[-1]
        for name, which in (("mean_error", "mean"), ("variance_error", "variance")):
            measured[f"gaussian_{name}"] = Quantity(
                f"a Gaussian's conditional {which}: |error| with r = {best['resamplings']} minus that with r = 1",
                [best[name] - plain[name]],
                "",
                (best[f"{name}_se"] ** 2 + plain[f"{name}_se"] ** 2) ** 0.5,
            )
        return Result(measured, {"gaussian": gaussian}, tensors)


def arms(model, data, mask, settings, key):
    """{arm: filled images [N, C, H, W]}; resampling, and replacement on a chain of as many steps, cost the same."""
    steps, jump, r = settings.sampling_steps, settings.jump, settings.resamplings
    jumps = len(range(0, steps - jump, jump))
    # A jump back costs no evaluation, the way down again costs ``jump``.
    long = min(model.timesteps, steps + jumps * jump * (r - 1))
    plans = {"replaced": (steps, 1, 1), "replaced_long": (long, 1, 1), "resampled": (steps, jump, r)}
    return {
        arm: filled(
            shortened(model, count),
            data,
            mask,
            generator(key[1], "gallery", "inpainting", key[0], arm),
            jump=length,
            resamplings=times,
        ).clamp(-1, 1)
        for arm, (count, length, times) in plans.items()
    }


def judged(x, data, labels, mask, judge, settings):
    """Accuracy on the filled images, their distance from the true ones as sets, and how rough the seam is."""
    draw = generator(settings.seeds[0], "gallery", "inpainting", "directions")
    directions = unit_directions(data[0].numel(), settings.projections, draw)
    return {
        "accuracy": judge.accuracy(x, labels),
        "distance": sliced_wasserstein(x.flatten(1), data.flatten(1), directions),
        "seam": seam(x, mask),
    }


def quantities(values, parts):
    """What the claims speak about, of {(name, part, arm): a value a seed}."""
    what = {
        "accuracy": "classifier's accuracy on filled digits",
        "distance": "sliced Wasserstein distance of filled digits to the true ones",
        "seam": "mean square step across the seam",
    }
    measured = {}
    for (name, part, arm), numbers in values.items():
        by = f", {KNOWN[part]} known: {ARMS.get(arm, 'true digits')}"
        measured[f"{name}_{part}_{arm}"] = Quantity(what[name] + by, numbers)
    for part in parts:
        for name, sign in (("accuracy", -1), ("distance", 1), ("seam", 1)):
            for other in ("replaced", "replaced_long"):
                pairs = zip(values[name, part, "resampled"], values[name, part, other], strict=True)
                of, minus = ("resampling", ARMS[other]) if sign > 0 else (ARMS[other], "resampling")
                measured[f"{name}_{part}_against_{other}"] = Quantity(
                    f"{what[name]}, {KNOWN[part]} known: {of} minus {minus}",
                    [sign * (a - b) for a, b in pairs],
                )
    return measured


def on_a_gaussian(process, settings):
    """[{"resamplings", "mean_error", "variance_error" and their standard errors}]: exact ε, x_1 = 1 known, x_2 filled.

    x ~ N(0, [[1, ρ], [ρ, 1]]), so that x_2 | x_1 = 1 is N(ρ, 1 − ρ²).
    """
    rho, n = settings.correlation, settings.points
    model = gaussian_model(process, torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64))
    model = shortened(model, settings.sampling_steps)
    given, rows = torch.ones(n, 2, dtype=torch.float64), []
    for r in settings.gaussian_resamplings:
        draw = generator(settings.seeds[0], "gallery", "inpainting", "gaussian", r)
        x = filled(model, given, torch.tensor([1.0, 0.0], dtype=torch.float64), draw, settings.jump, r)[:, 1]
        variance = x.var().item()
        rows.append(
            {
                "resamplings": r,
                "mean": x.mean().item(),
                "variance": variance,
                "mean_error": abs(x.mean().item() - rho),
                "mean_error_se": (variance / n) ** 0.5,
                "variance_error": abs(variance - (1 - rho**2)),
                "variance_error_se": variance * (2 / (n - 1)) ** 0.5,
            }
        )
    return rows
