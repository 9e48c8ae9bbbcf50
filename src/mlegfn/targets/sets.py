"""Subsets of N of D elements with an additive log-reward: too many to list, and exact all the same.

The sets task of arXiv 2410.09355 (D = 32, N = 16, from a secondary source). There are C(32, 16) = 601,080,390.
"""

import math
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from mlegfn.randomness import generator
from mlegfn.targets.checks import legal, listable, state_tensor
from mlegfn.targets.enumeration import mean_deviation

__all__ = ["Sets", "log_polynomials"]


def log_polynomials(values: Tensor, sizes: int) -> Tensor:
    """[…, D] → [D+1, …, N+1]: row d is log e_k of the first d of exp(values), k = 0…N = ``sizes``.

    e_k(w) = Σ_{|S| = k} Π_{i∈S} w_i, the elementary symmetric polynomials, by e_k(w_1…w_d) = e_k(w_1…w_{d−1})
    + w_d e_{k−1}(w_1…w_{d−1}). All terms are positive: nothing cancels. −∞ where k > d.
    """
    row = torch.full((*values.shape[:-1], sizes + 1), -math.inf, dtype=values.dtype)
    row[..., 0] = 0
    rows = [row]
    for value in values.unbind(-1):
        with_it = F.pad(rows[-1][..., :-1] + value[..., None], (1, 0), value=-math.inf)
        rows.append(torch.logaddexp(rows[-1], with_it))
    return torch.stack(rows)


class Sets:
    """x ∈ {0, 1}^D with |x| = N, from the empty set by "add element d", d < D, then *stop*, with

        log R(x) = Σ_{d∈x} f(d),    f(d) standard normal, fixed by ``seed``.  # assumed: the sum, and f's law

    Only sets of size N are objects: *stop* is allowed there alone, and is then all there is. N! trajectories
    lead to each. ``values`` [D] gives another f. Listed where D ≤ 20.
    """

    shape: tuple[int, ...]
    early = (
        False  # no trajectory stops before ``depth``: rollouts of states that are not listed need not look
    )

    def __init__(
        self, elements: int = 32, size: int = 16, seed: int = 0, values: Tensor | None = None
    ) -> None:
        if not 1 <= size <= elements or elements > 62:
            raise ValueError(f"sets have 1 ≤ size ≤ elements ≤ 62, not size {size} of {elements}")
        if values is None:
            rng = generator(seed, "sets", elements)
            values = torch.randn(elements, generator=rng, dtype=torch.float64)  # assumed
        if values.shape != (elements,) or not values.isfinite().all():
            raise ValueError(f"values must be {elements} finite numbers, not of shape {tuple(values.shape)}")
        self.elements, self.size, self.values = elements, size, values.double()
        self.shape, self.actions, self.depth = (elements,), elements + 1, size
        self._table = log_polynomials(self.values, size)

    def initial(self, count: int) -> Tensor:
        return torch.zeros(count, self.elements, dtype=torch.int64)

    def level(self, states: Tensor) -> Tensor:
        return states.sum(1)

    def allowed(self, states: Tensor) -> Tensor:
        full = (self.level(states) == self.size)[:, None]
        return torch.cat([(states == 0) & ~full, full], 1)

    def step(self, states: Tensor, action: Tensor) -> Tensor:
        legal(action, self.allowed(states)[:, :-1], "adds what is there, or to a set that is full")
        return states + F.one_hot(action, self.elements)

    def undoable(self, states: Tensor) -> Tensor:
        return states > 0

    def undo(self, states: Tensor, action: Tensor) -> Tensor:
        legal(action, self.undoable(states), "removes what is not there")
        return states - F.one_hot(action, self.elements)

    def log_reward(self, x: Tensor) -> Tensor:
        """Of a set that is too small to be an object, the sum so far."""
        self._check(x)
        return x.double() @ self.values.to(x.device)

    def features(self, states: Tensor) -> Tensor:
        """The set itself, [N, D]."""
        return states.double()

    @property
    def log_z(self) -> Tensor:
        """[]: log e_N(exp f), nats."""
        return self._table[-1, -1]

    @property
    def objects(self) -> int:
        """C(D, N)."""
        return math.comb(self.elements, self.size)

    def marginals(self) -> Tensor:
        """float64 [D]: P(d ∈ x) = w_d e_{N−1}(w without d) / e_N(w), w = exp f. They sum to N."""
        others = self.values.repeat(self.elements, 1).fill_diagonal_(-math.inf)  # w_d = 0: as if it were not
        without = log_polynomials(others, self.size)[-1, :, self.size - 1]
        return (self.values + without - self.log_z).exp()

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """int64 [count, D], exactly ∝ R(x): whether the last element is in it, then the one before, and so on.

        With k still to be chosen of the first d, d is in with probability w_d e_{k−1}(w_1…w_{d−1}) /
        e_k(w_1…w_d).
        """
        x, left = self.initial(count), torch.full((count,), self.size)
        for d in reversed(range(self.elements)):
            log_in = self.values[d] + self._table[d, (left - 1).clamp(min=0)] - self._table[d + 1, left]
            inside = torch.rand(count, generator=rng, dtype=torch.float64).log() < log_in
            x[:, d] = (inside & (left > 0)) | (left > d)
            left = left - x[:, d]
        return x

    def sampling_floor(self, count: int, draws: int = 2**14, seed: int = 0) -> tuple[float, float]:
        """(E Σ_x |p̂(x) − p(x)| of ``count`` exact samples, its standard error), as Σ_x = E_{x∼p} 1/p(x).

        Unbiased from ``draws`` exact samples; what ``Enumeration.sampling_floor`` sums.
        """
        x = self.sample(draws, generator(seed, "sets", "floor", count))
        p = (self.log_reward(x) - self.log_z).exp()
        ratio = mean_deviation(p, count) / p
        return ratio.mean().item(), (ratio.std() / math.sqrt(draws)).item()

    @cached_property
    def _listed(self) -> tuple[Tensor, Tensor]:
        """(states, int64 [2^D]: the row of each that is one), all subsets being the binary numbers 0…2^D − 1."""
        listable(2**self.elements, "subsets")
        members = torch.arange(2**self.elements)[:, None] >> torch.arange(self.elements) & 1
        small = members.sum(1) <= self.size
        return members[small], small.cumsum(0) - 1

    def states(self) -> Tensor:
        return self._listed[0]

    def index(self, states: Tensor) -> Tensor:
        self._check(states)
        return self._listed[1][(states << torch.arange(self.elements)).sum(1)]

    def _check(self, x: Tensor) -> None:
        state_tensor(x, self.elements, "sets")
        if len(x) and not (x.min() >= 0 and x.max() <= 1 and x.sum(1).max() <= self.size):
            raise ValueError(f"sets are 0 and 1, with at most {self.size} ones")
