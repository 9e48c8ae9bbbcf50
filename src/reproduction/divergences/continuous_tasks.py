"""The tasks whose objects are points in the plane: a target, coordinates in turn, Jensen–Shannon by quadrature."""

import torch

from mlegfn.gflownet.continuous import ContinuousGFlowNet
from mlegfn.gflownet.coordinates import CoordinatePolicy
from mlegfn.gflownet.jensen_shannon import jensen_shannon, of_samples, sampling_floor
from mlegfn.randomness import seed_layers
from mlegfn.targets.banana import Banana
from mlegfn.targets.mixture import GaussianMixture

__all__ = ["ContinuousTask", "axes", "new_policy"]

NUTS_SAMPLES = 500  # of each of four chains: for the figure


def axes(target, cells):
    """Two tensors [cells]: the centres of equal cells of the target's box."""
    low, high = target.box
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    return [a + (b - a) * centres for a, b in zip(low, high)]


def new_policy(target, name, seed, hidden, components, spread):
    """The policy before training: the same for every objective of a seed."""
    with torch.random.fork_rng([]):
        seed_layers(seed, "divergences", name)
        return CoordinatePolicy(target.dimensions, hidden, components, spread)


class ContinuousTask:
    """A task as those of ``tasks.py``: P_B is 1, so p_θ(x) is a density in closed form."""

    metric = "JSD"

    def __init__(self, name, settings):
        self.name, self.settings = name, settings
        self.target = GaussianMixture() if name == "mixture" else Banana()
        self.about = (
            f"9 modes on a grid of spacing 5, variance {self.target.variance:g}"
            if name == "mixture"
            else f"x ~ N(0, I), {self.target.y:g} = x₁ + x₂² + {self.target.noise:g} · noise"
        )
        self.about += f"; the policy starts on ±{settings.spread:g}"
        self.log_z = float(self.target.log_z)

    def model(self, seed):
        s = self.settings
        policy = new_policy(self.target, self.name, seed, s.hidden, s.components, s.spread)
        return ContinuousGFlowNet(policy, self.target)

    def value(self, model):
        estimate = jensen_shannon(model.policy, self.target, self.settings.cells)
        return estimate.value, estimate.error

    last = value

    def sampled(self, model, rng):
        drawn = model.policy.sample(self.settings.samples, rng)
        return of_samples(drawn, self.target, self.settings.bins)

    def floor(self):
        return sampling_floor(self.target, self.settings.samples, self.settings.bins)

    def density(self, model):
        """[cells, cells]: p_θ on ``axes``."""
        return model.policy.on_grid(axes(self.target, self.settings.cells)).exp()

    def arrays(self):
        """The target's density on the same cells; of the banana also samples by NUTS [M, 2], the ground truth."""
        points = torch.cartesian_prod(*axes(self.target, self.settings.cells))
        densities = {"target": self.target.log_prob(points).exp().view(self.settings.cells, -1)}
        if self.name == "banana":
            densities["nuts"] = self.target.nuts(NUTS_SAMPLES, seed=0).flatten(0, 1)
        return densities
