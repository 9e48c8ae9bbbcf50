"""The tasks of arXiv 2410.09355: a target, its policy, the metric and the metric's sampling floor. One class a kind."""

import torch

from mlegfn.gflownet.environment import Listed, Members
from mlegfn.gflownet.evaluation import Subsets, distance, log_terminating, sampled_distance
from mlegfn.gflownet.model import GFlowNet
from mlegfn.gflownet.policies import MLPPolicy
from mlegfn.randomness import seed_layers
from mlegfn.targets.checks import LARGEST
from mlegfn.targets.enumeration import Enumeration
from mlegfn.targets.hypergrid import Hypergrid
from mlegfn.targets.phylogeny import Phylogeny
from mlegfn.targets.sequences import Sequences
from mlegfn.targets.sets import Sets

__all__ = ["TITLES", "new_task"]

TITLES = {
    "hypergrid": "Hypergrid",
    "sets": "Sets",
    "sequences": "Sequences",
    "phylogeny": "Phylogenetic trees, GIN",
    "phylogeny_mlp": "Phylogenetic trees, MLP",
    "mixture": "Mixture of nine Gaussians",
    "banana": "Banana",
}


def new_task(name, settings):
    """The task ``name`` (``settings.Task``) as ``settings``, its block, describes it.

    Each has ``metric``, ``about``, ``log_z``, ``model(seed)``, ``value(model) → (metric, standard error)``,
    ``last(model) → the same, more precisely``, ``sampled(model, rng) → the metric by Monte Carlo, or None``,
    ``floor() → (mean, standard error or None)`` of the latter for a perfect model.
    """
    if name in ("mixture", "banana"):
        from reproduction.divergences.continuous_tasks import ContinuousTask

        return ContinuousTask(name, settings)
    if name == "sets" and 2**settings.elements > LARGEST:
        return SetsTask(name, settings)
    return ListedTask(name, settings)


def _target(name, s):
    if name == "hypergrid":
        return Hypergrid(s.dimensions, s.side, s.r0), f"{s.dimensions}-D, side {s.side}, R0 = {s.r0:g}"
    if name == "sets":
        return Sets(s.elements, s.size), f"{s.size} of {s.elements} elements"
    if name == "sequences":
        return Sequences(s.alphabet, s.longest), f"at most {s.longest} of {s.alphabet} letters"
    about = f"{s.species} species, {s.sites} sites, JC69, branches of {s.branch:g}"
    return Phylogeny.simulated(s.species, s.sites, s.branch), about


class _Discrete:
    metric = "L1"

    def __init__(self, name, settings):
        self.name, self.settings = name, settings
        self.target, self.about = _target(name, settings)
        self.log_z = float(self.target.log_z)

    def policy(self, seed):
        """The policy before training: the same for every objective of a seed."""
        with torch.random.fork_rng([]):
            seed_layers(seed, "divergences", self.name)
            if self.name == "phylogeny":
                from mlegfn.gflownet.gin import TreePolicy

                return TreePolicy(self.target, self.settings.hidden)
            return MLPPolicy(self.target, self.settings.hidden)


class ListedTask(_Discrete):
    """p_θ of every object is exact, by dynamic programming; Monte-Carlo counts are multinomial."""

    def __init__(self, name, settings):
        super().__init__(name, settings)
        self.graph = Enumeration(self.target)
        self.about += f", {int(self.graph.allowed[:, -1].sum()):,} objects"
        self.shared = None

    def model(self, seed):
        policy = self.policy(seed)
        if self.shared is None:  # what the network reads has no parameters, so one table serves all
            self.shared = Listed(self.target, policy.inputs, self.graph)
        return GFlowNet(policy, self.shared)

    def value(self, model):
        return distance(log_terminating(model), self.graph.log_prob), 0.0

    last = value

    def sampled(self, model, rng):
        return sampled_distance(log_terminating(model), self.graph.log_prob, self.settings.samples, rng)

    def floor(self):
        return self.graph.sampling_floor(self.settings.samples), None


class SetsTask(_Discrete):
    """Too many objects to list: the sum is an expectation over exact samples of the target, p_θ of which is exact.

    By Monte Carlo it cannot be measured: so many samples could not tell a perfect model, as the floor says.
    """

    def __init__(self, name, settings):
        super().__init__(name, settings)
        self.about += f", {self.target.objects:,} objects"
        self.during = Subsets(self.target, settings.points)
        self.at_last = Subsets(self.target, 4 * settings.points)

    def model(self, seed):
        policy = self.policy(seed)
        return GFlowNet(policy, Members(self.target))

    def value(self, model):
        return self.during.distance(model.policy)

    def last(self, model):
        return self.at_last.distance(model.policy)

    def sampled(self, model, rng):
        """None."""

    def floor(self):
        return self.target.sampling_floor(self.settings.samples)
