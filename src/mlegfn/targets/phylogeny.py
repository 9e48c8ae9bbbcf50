"""Bayesian phylogenetic inference: rooted trees over species, with Felsenstein's likelihood under JC69.

The task of arXiv 2410.09355: 7 species, 25 simulated nucleotides each, constant branch length, uniform prior.
"""

import math
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from mlegfn.randomness import generator
from mlegfn.targets.checks import legal, listable, state_tensor

__all__ = ["Phylogeny", "evolve", "jukes_cantor"]

BRANCH = 0.1  # assumed: expected substitutions a site along each edge
CHUNK = 4096  # states whose likelihood is computed at once: 23 MB of partial likelihoods for 7 × 25


def jukes_cantor(branch: float) -> Tensor:
    """float64 [4, 4]: P(b | a) after ``branch`` expected substitutions a site (Jukes & Cantor 1969).

    ¼ + ¾ e^{−4b/3} on the diagonal, ¼ − ¼ e^{−4b/3} beside it; symmetric, and ¼ is its stationary law.
    """
    other = -math.expm1(-4 * branch / 3) / 4  # expm1: no digits are lost at short branches
    return torch.full((4, 4), other, dtype=torch.float64).fill_diagonal_(1 - 3 * other)


def evolve(tree: Tensor, species: int, sites: int, branch: float, rng: torch.Generator) -> Tensor:
    """int64 [species, sites], nucleotides 0…3: a sequence, uniform at the root, mutates down ``tree`` [n−1]."""
    clades, slots = tree.sort(descending=True)  # a clade before those in it
    transition = jukes_cantor(branch)
    at = torch.zeros(species, sites, dtype=torch.int64)
    at[0] = torch.randint(4, (sites,), generator=rng)
    for clade, slot in zip(clades.tolist(), slots.tolist()):
        first = (clade & -clade).bit_length() - 1
        for child in (slot + 1, first):
            at[child] = torch.multinomial(transition[at[first]], 1, generator=rng)[:, 0]
    return at


def _first(keys: Tensor) -> Tensor:
    """The rows where a key stands that did not stand before, by key."""
    keys, order = keys.sort(stable=True)
    new = torch.ones_like(keys, dtype=torch.bool)
    new[1:] = keys[1:] != keys[:-1]
    return order[new]


class Phylogeny:
    """Rooted binary topologies x with R(x) = p(sequences | x) / (2n−3)!!, so that Z is the evidence.

    sequences int64 [n, sites], nucleotides 0…3. All 2n − 2 edges have length ``branch``; ∞ makes all topologies
    equal. The two edges at the root do not merge into one of length b, so the root's place matters.

    A state is a forest: from n single species by "merge the trees of i and j" up to one tree, where *stop* is
    all that is allowed. A tree is called by its smallest species; merging i < j leaves the name i, and j, used
    up once and for all, has its slot j − 1 to keep the new clade: int64 [n−1] of bit masks of species, 0 where
    j is still a root. Equal forests are thus equal tensors, whatever the order of merges or children. A subset
    is a smaller number, so in increasing order clades come after those in them.

    Undoing splits one root, so a forest has as many parents as it has trees of two species or more, and
    (n−1)! / Π_clades (|clade| − 1) trajectories lead to a topology: its orders of merging. In all n!(n−1)! /
    2^{n−1}, 56,700 for 7 species and 10,395 topologies. Listed where n ≤ 8.
    """

    shape: tuple[int, ...]

    def __init__(self, sequences: Tensor, branch: float = BRANCH) -> None:
        if sequences.ndim != 2 or sequences.is_floating_point() or not 2 <= len(sequences) <= 62:
            raise ValueError(f"sequences must be int64 [2…62 species, sites], not {tuple(sequences.shape)}")
        if sequences.numel() and not (sequences.min() >= 0 and sequences.max() <= 3):
            raise ValueError("nucleotides are 0…3")
        if not branch > 0:
            raise ValueError(f"a branch has a length > 0, not {branch}")
        self.sequences, self.branch, self.species = sequences, branch, len(sequences)
        self.pairs = torch.triu_indices(self.species, self.species, 1)  # [2, A−1]: i < j of each action
        self.topologies = math.prod(range(1, 2 * self.species - 2, 2))
        self.shape, self.actions = (self.species - 1,), self.pairs.shape[1] + 1
        self.depth = self.species - 1

    @classmethod
    def simulated(cls, species: int = 7, sites: int = 25, branch: float = BRANCH, seed: int = 0) -> Self:
        """Sequences that evolved along a tree, itself built by uniform merges."""  # assumed: that tree
        rng = generator(seed, "phylogeny", species, sites)
        blank = cls(torch.zeros(species, 0, dtype=torch.int64))
        tree = blank.initial(1)
        for _ in range(species - 1):
            tree = blank.step(tree, torch.multinomial(blank.allowed(tree).double(), 1, generator=rng)[:, 0])
        return cls(evolve(tree[0], species, sites, branch, rng), branch)

    def initial(self, count: int) -> Tensor:
        return torch.zeros(count, self.species - 1, dtype=torch.int64)

    def level(self, states: Tensor) -> Tensor:
        return (states > 0).sum(1)

    def _single(self, states: Tensor) -> Tensor:
        return 1 << torch.arange(self.species, device=states.device)

    def _roots(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(bool [N, n]: i is a root's name, int64 [N, n]: the largest clade whose smallest species is i)."""
        single = self._single(states)
        mine = torch.where((states & -states)[:, None] == single[:, None], states[:, None], 0)
        root = F.pad(states == 0, (1, 0), value=True)
        return root, torch.maximum(mine.amax(2), single)

    def allowed(self, states: Tensor) -> Tensor:
        root, _ = self._roots(states)
        i, j = self.pairs.to(states.device)
        return torch.cat([root[:, i] & root[:, j], (self.level(states) == self.depth)[:, None]], 1)

    def step(self, states: Tensor, action: Tensor) -> Tensor:
        legal(action, self.allowed(states)[:, :-1], "merges what is no tree of the forest")
        i, j = self.pairs.to(states.device)[:, action, None]
        _, clade = self._roots(states)
        return states.scatter(1, j - 1, clade.gather(1, i) | clade.gather(1, j))

    def undoable(self, states: Tensor) -> Tensor:
        """True at (i, j) where j's slot holds the whole tree of i: it was made by that merge."""
        root, clade = self._roots(states)
        i, j = self.pairs.to(states.device)
        return root[:, i] & (states[:, j - 1] == clade[:, i])

    def undo(self, states: Tensor, action: Tensor) -> Tensor:
        legal(action, self.undoable(states), "splits what is no tree, or elsewhere than at its root")
        return states.scatter(1, self.pairs.to(states.device)[1, action, None] - 1, 0)

    def log_likelihood(self, states: Tensor) -> Tensor:
        """float64 [N]: log p(sequences | forest), nats; trees of a forest are independent of each other.

        Felsenstein's pruning (1981), clade by clade: L_C(a) = Π_{children c} Σ_b P(b|a) L_c(b), rescaled at every
        clade so that nothing underflows, and at a root Σ_a ¼ L(a).
        """
        self._check(states)
        return torch.cat([self._prune(part) for part in states.split(CHUNK)])

    def _prune(self, states: Tensor) -> Tensor:
        count, device = len(states), states.device
        row, single = torch.arange(count, device=device), self._single(states)
        leaves = F.one_hot(self.sequences, 4).double().to(device)
        partial = leaves.repeat(count, 1, 1, 1)  # [N, n, sites, 4], of the tree whose smallest species is i
        transition = jukes_cantor(self.branch).to(device)
        scale = torch.zeros(count, dtype=torch.float64, device=device)
        clades, slots = states.sort(1)
        for clade, slot in zip(clades.T, slots.T):
            # Its children came before it: what stands under their names is theirs.
            first, second = ((clade[:, None] & single) > 0).int().argmax(1), slot + 1
            merged = (partial[row, first] @ transition) * (partial[row, second] @ transition)
            top = merged.amax(2, keepdim=True)
            inner = clade > 0
            partial[row, first] = torch.where(inner[:, None, None], merged / top, partial[row, first])
            scale += torch.where(inner, top.log().sum((1, 2)), 0)
        root, _ = self._roots(states)
        return scale + (partial.mean(3).log().sum(2) * root).sum(1)

    def log_reward(self, x: Tensor) -> Tensor:
        """log p(sequences | x) − log (2n−3)!!; of a forest that is no tree yet, the same with its likelihood."""
        return self.log_likelihood(x) - math.log(self.topologies)

    def features(self, states: Tensor) -> Tensor:
        """Which species are in the clade of each slot, [N, (n−1)·n]."""
        return ((states[..., None] & self._single(states)) > 0).flatten(1).double()

    @cached_property
    def log_z(self) -> Tensor:
        """[]: log p(sequences), nats, by listing."""
        states = self.states()
        return self.log_reward(states[self.level(states) == self.depth]).logsumexp(0)

    def _key(self, states: Tensor) -> Tensor:
        """int64 [N]: the forest as one number; in (n−1)·n bits, so for n ≤ 8."""
        return (states << self.species * torch.arange(self.depth, device=states.device)).sum(1)

    @cached_property
    def _listed(self) -> tuple[Tensor, Tensor]:
        """(states, their keys), by key: all children of s_0, of those, and so on, each once."""
        forests = [1, 1]  # of n species: binary trees are t_k = (2k−3)!!, and f_n = f_{n−2} + (2n−3) f_{n−1}
        for n in range(2, self.species + 1):
            forests.append(forests[-2] + (2 * n - 3) * forests[-1])
        listable(forests[self.species], "forests")
        levels = [self.initial(1)]
        for _ in range(self.depth):
            row, action = self.allowed(levels[-1])[:, :-1].nonzero(as_tuple=True)
            children = self.step(levels[-1][row], action)
            levels.append(children[_first(self._key(children))])
        states = torch.cat(levels)
        keys, order = self._key(states).sort()
        return states[order], keys

    def states(self) -> Tensor:
        return self._listed[0]

    def index(self, states: Tensor) -> Tensor:
        self._check(states)
        keys = self._listed[1]
        return torch.searchsorted(keys, self._key(states))

    def _check(self, x: Tensor) -> None:
        state_tensor(x, self.species - 1, "forests")
        if len(x) and not (x.min() >= 0 and x.max() < 1 << self.species):
            raise ValueError(f"clades are bit masks of {self.species} species")
