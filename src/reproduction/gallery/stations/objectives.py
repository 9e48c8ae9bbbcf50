"""Objectives and reverse variances: what each does to the likelihood and to the samples."""

from dataclasses import dataclass

import torch

from mlegfn.data import scale_to_unit
from mlegfn.diffusion.likelihood import bits_per_dim, epsilon_errors
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import analytic_log_variance, fixed_log_variance
from mlegfn.networks.unet import eps_network
from mlegfn.randomness import generator
from mlegfn.training.mle_gfn import anchor_loss
from mlegfn.training.pretraining import anchor_batch
from reproduction.gallery.fitting import fit, weights
from reproduction.gallery.images.model import build, model_of, process_of, train_images
from reproduction.gallery.likelihood.remembered import Remembered
from reproduction.gallery.likelihood.yardstick import Yardstick
from reproduction.gallery.station import Quantity, Result, Station


@dataclass(frozen=True)
class Arm:
    """A training: its likelihood term (``training.mle_gfn.anchor_loss``) and whether the network has a variance."""

    title: str
    kind: str
    learned: bool


# L_hybrid with a fixed variance *is* L_simple: the mean gets no gradient from its bound. L_simple gives a learned
# variance none. So these four are all there are.
ARMS = {
    "simple": Arm("L_simple", "simple", False),
    "hybrid": Arm("L_hybrid", "simple", True),
    "bound": Arm("L_vlb, fixed variance", "vlb", False),
    "bound_learned": Arm("L_vlb, learned variance", "vlb", True),
}
TRAINED = "large"  # the fixed variance of L_vlb's training: β_t, DDPM's choice


class Objectives(Station):
    """The bound on the likelihood is a sum over t of divergences. DDPM trains a reweighted sum, L_simple, which looks
    at noise alone and gives late t more weight; L_vlb is the bound itself; L_hybrid adds a little of the bound to
    L_simple, to learn the variances from it and nothing else. The variance of a reverse step is another choice: β_t,
    β̃_t, the optimum for the network at hand, σ_t² = β̃_t + c_t² E‖ε − ε_θ‖²/d, which takes no training, or one that
    the network learns for every pixel. Every objective is trained once a seed, and every variance is tried on it.
    """

    title = "Objectives and variances"
    order = 4
    notes = "training objectives, reverse variances, likelihood"

    @classmethod
    def run(cls, settings, inputs):
        rows, floors, tensors = {}, [], {}
        for seed in settings.seeds:
            yardstick = Yardstick(inputs.images, settings.samples, settings.projections, seed)
            floors.append(yardstick.floor())
            for name, arm in ARMS.items():
                network = trained(arm, settings, inputs.images, seed)
                if name == "simple" and seed == settings.seeds[0]:
                    tensors = weights(network, "model")
                for variance, one in measured(network, arm, settings, inputs.images, yardstick, seed).items():
                    rows.setdefault((name, variance), []).append(one)
        quantities = {
            **{
                f"{what}_{name}_{variance}": Quantity(
                    f"{description} of {ARMS[name].title}, variance {variance}",
                    [one[what] for one in entries],
                    unit,
                )
                for (name, variance), entries in rows.items()
                for what, description, unit in (
                    ("nll", "test NLL", "bits/dim"),
                    ("distance", "sliced Wasserstein distance to test images", ""),
                )
            },
            "distance_floor": Quantity("sliced Wasserstein distance of training images", floors),
        }
        quantities |= comparisons(quantities)
        details = {
            "rows": [
                {"arm": name, "objective": ARMS[name].title, "variance": variance} for name, variance in rows
            ]
        }
        terms = torch.stack(
            [torch.stack([one["terms"] for one in entries]).mean(0) for entries in rows.values()]
        )
        return Result(quantities, details, {**tensors, "terms": terms})


def trained(arm, settings, images, seed):
    """The averaged network of one training. Data, times and noise of a step are those of every other arm."""
    data = train_images(images)
    network = build(settings, images.shape, seed, learned_variance=arm.learned)
    model = model_of(network, settings, images.levels, "learned" if arm.learned else TRAINED)

    def loss(step):
        batch = anchor_batch(
            model.process, data, seed, ("gallery", "objectives"), step, settings.batch, False
        )
        prediction = model.predict(batch.x_t, batch.t)
        return anchor_loss(model, batch.x0, batch.x_t, batch.t, prediction, arm.kind).mean()

    return fit(network, loss, settings.steps, settings.optimizer, f"{arm.title}, seed {seed}")


def with_variances(network, learned, settings, images, seed):
    """{variance: DenoisingModel} of one network [N, C or 2C, ...]; nothing is trained for it."""
    process, channels = process_of(settings), images.shape[0]

    def eps(x, time):
        return network(x, time)[:, :channels]

    small = DenoisingModel(eps, process, fixed_log_variance(process, "small"), images.levels)
    errors = epsilon_errors(small, train_images(images)[: settings.variance_images], seed).mean(1)
    models = {
        "large": DenoisingModel(eps, process, fixed_log_variance(process, "large"), images.levels),
        "small": small,
        "analytic": DenoisingModel(eps, process, analytic_log_variance(process, errors), images.levels),
    }
    if learned:
        models["learned"] = DenoisingModel(network, process, None, images.levels)
    return models


def measured(network, arm, settings, images, yardstick, seed):
    """{variance: {"nll" bits/dim, "terms" [T+1] bits/dim, "distance"}} of a network, at equal noise."""
    test = scale_to_unit(images.test_images[: settings.test_images], images.levels)
    remembered, measurements = Remembered(eps_network(network)), {}
    for variance, model in with_variances(remembered, arm.learned, settings, images, seed).items():
        bits = bits_per_dim(model, test, seed)
        samples = sample(network, model, (settings.samples, *images.shape), seed)
        measurements[variance] = {
            "nll": bits.per_image.mean().item(),
            "terms": bits.terms,
            "distance": yardstick.distance(samples),
        }
    return measurements


def sample(network, model, shape, seed):
    """[N, C, H, W] by ancestral sampling, with the network itself: no state comes twice, so none is worth keeping."""
    plain = eps_network(network)
    channels = None if model.log_variance is None else shape[1]
    model = DenoisingModel(
        lambda x, time: plain(x, time)[:, :channels], model.process, model.log_variance, model.levels
    )
    return model.sample_pf(shape, generator(seed, "gallery", "objectives", "samples"), keep=[0])[0]


def comparisons(quantities):
    """{name: Quantity}: differences of two rows, seed by seed; what claims/gallery.yaml speaks about."""

    def less(first, *others):
        return [
            one - min(rest)
            for one, *rest in zip(*(quantities[name].values for name in (first, *others)), strict=True)
        ]

    return {
        "analytic_less_fixed": Quantity(
            "test NLL of L_simple: analytic variance, less the better of β_t and β̃_t",
            less("nll_simple_analytic", "nll_simple_large", "nll_simple_small"),
            "bits/dim",
        ),
        "hybrid_less_simple": Quantity(
            "test NLL: L_hybrid with its variance, less L_simple with β_t",
            less("nll_hybrid_learned", "nll_simple_large"),
            "bits/dim",
        ),
        "learned_less_analytic": Quantity(
            "test NLL of L_hybrid: learned variance, less the analytic one of the same network",
            less("nll_hybrid_learned", "nll_hybrid_analytic"),
            "bits/dim",
        ),
        "bound_less_simple": Quantity(
            "test NLL with β_t: L_vlb, less L_simple",
            less("nll_bound_large", "nll_simple_large"),
            "bits/dim",
        ),
        "bound_less_hybrid": Quantity(
            "test NLL with learned variances: L_vlb, less L_hybrid",
            less("nll_bound_learned_learned", "nll_hybrid_learned"),
            "bits/dim",
        ),
        "simple_nearer_than_bound": Quantity(
            "distance of samples with β_t: L_simple, less L_vlb",
            less("distance_simple_large", "distance_bound_large"),
        ),
        "hybrid_nearer_than_bound": Quantity(
            "distance of samples with learned variances: L_hybrid, less L_vlb",
            less("distance_hybrid_learned", "distance_bound_learned_learned"),
        ),
    }
