"""A model with labels that can be left out, and classifier-free guidance."""

import math

import torch

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import fixed_log_variance
from reproduction.gallery.fitting import initialised
from reproduction.gallery.images.model import build

__all__ = ["Labelled", "build_labelled"]


def build_labelled(settings, shape, classes, seed):
    """The U-Net of ``build`` that is told a label in 0…classes − 1, or ``classes``: none."""
    from diffusers import UNet2DModel

    plain = build(settings, shape, seed)
    config = {name: value for name, value in plain.config.items() if not name.startswith("_")}
    config["num_class_embeds"] = classes + 1
    network = initialised(lambda: UNet2DModel(**config), seed, "gallery", "labelled")
    network.load_state_dict(plain.state_dict(), strict=False)  # all but the labels' embedding, which it lacks
    return network


class Labelled:
    """ε_θ(x_t, t, y), y = 0…classes − 1, or ``classes``, the null label ∅ of the unconditional model.

    network(x [N, ...], time int64 [N] in 0…T − 1, labels int64 [N]) → [N, ...]; process: GaussianDiffusion.
    """

    def __init__(self, network, process, classes, levels=None):
        self.network, self.process, self.classes, self.levels = network, process, classes, levels

    def loss(self, x_0, t, eps, labels, hidden):
        """[]: ‖ε − ε_θ(x_t, t, y)‖², with ∅ in place of y where ``hidden`` [N] (Ho & Salimans 2022, Algorithm 1)."""
        given = torch.where(hidden, self.classes, labels)
        return (eps - self.network(self.process.noise(x_0, t, eps), t - 1, given)).square().mean()

    def guided(self, x_t, t, labels, w):
        """[N, ...]: ε_c + w (ε_c − ε_u) (Ho & Salimans 2022, arXiv 2207.12598, eq. 6), for w ≥ −1.

        w = 0 is the conditional model, w = −1 the unconditional one, bit for bit; for w > 0 ε extrapolates, which no
        convex combination of the two can. As scores: ∇ log p(x_t|y) + w ∇ log p(y|x_t).

        t int64 [N] in 1…T; labels int64 [N] in 0…classes − 1.
        Raises ValueError for a w that is not finite or < −1, times and labels outside these, or other shapes.
        """
        self._check(x_t, t, labels, w)
        null = torch.full_like(labels, self.classes)
        if w == 0:
            return self.network(x_t, t - 1, labels)
        if w == -1:
            return self.network(x_t, t - 1, null)
        conditional, unconditional = self.network(x_t, t - 1, labels), self.network(x_t, t - 1, null)
        return conditional + w * (conditional - unconditional)

    def model(self, labels, w, steps):
        """P_F of the guided ε for samples of ``labels`` [N], on ``steps`` of the T times; variances β̃."""
        process = self.process.respaced(steps)
        return DenoisingModel(
            lambda x, time: self.guided(x, time + 1, labels, w),
            process,
            fixed_log_variance(process, "small"),
            self.levels,
        )

    def _check(self, x_t, t, labels, w):
        if not math.isfinite(w) or w < -1:
            raise ValueError(f"guidance needs a finite weight w ≥ −1, got {w}")
        for name, values, low, high in (
            ("times", t, 1, self.process.timesteps),
            ("labels", labels, 0, self.classes - 1),
        ):
            if values.shape != (len(x_t),) or values.is_floating_point():
                raise ValueError(
                    f"{name} must be integers, one a state, [{len(x_t)}], not {values.dtype} {list(values.shape)}"
                )
            if len(values) and not (values.min() >= low and values.max() <= high):
                raise ValueError(f"{name} lie in {low}…{high}, got {int(values.min())}…{int(values.max())}")
