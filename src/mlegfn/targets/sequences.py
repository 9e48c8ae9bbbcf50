"""Sequences of at most N letters, each letter's log-reward weighted by its place: a tree, one parent each.

The sequence task of arXiv 2410.09355 (D = 8, N = 6, from a secondary source).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mlegfn.randomness import generator
from mlegfn.targets.checks import legal, listable, state_tensor

__all__ = ["Sequences"]


class Sequences:
    """x_1 … x_k, 0 ≤ k ≤ N, of the letters 1…D, then zeros, by "append letter a+1", a < D, or *stop*, with

        log R(x) = Σ_{i≤k} g(i) f(x_i),    g(i), f(d) standard normal, fixed by ``seed``.  # assumed: form and law

    *stop* is always allowed, so the empty sequence is an object too, with log R = 0: "length ≤ N" includes it,
    and without it there would be 299,592, not 299,593 = (8⁷ − 1)/7.  # assumed: from a count that is inferred

    P_B is 1: one trajectory leads to each. ``places`` [N] and ``letters`` [D] give other g and f.
    """

    shape: tuple[int, ...]

    def __init__(
        self,
        alphabet: int = 8,
        longest: int = 6,
        seed: int = 0,
        places: Tensor | None = None,
        letters: Tensor | None = None,
    ) -> None:
        if alphabet < 1 or longest < 1:
            raise ValueError(f"sequences need alphabet ≥ 1 and longest ≥ 1, not {alphabet} and {longest}")
        rng = generator(seed, "sequences", alphabet, longest)
        g = torch.randn(longest, generator=rng, dtype=torch.float64)  # assumed
        f = torch.randn(alphabet, generator=rng, dtype=torch.float64)  # assumed
        self.places = g if places is None else places.double()
        self.letters = f if letters is None else letters.double()
        for name, weights, count in (("places", self.places, longest), ("letters", self.letters, alphabet)):
            if weights.shape != (count,) or not weights.isfinite().all():
                raise ValueError(
                    f"{name} must be {count} finite numbers, not of shape {tuple(weights.shape)}"
                )
        self.alphabet, self.longest = alphabet, longest
        self.shape, self.actions, self.depth = (longest,), alphabet + 1, longest

    def initial(self, count: int) -> Tensor:
        return torch.zeros(count, self.longest, dtype=torch.int64)

    def level(self, states: Tensor) -> Tensor:
        return (states > 0).sum(1)

    def allowed(self, states: Tensor) -> Tensor:
        shorter = (self.level(states) < self.longest)[:, None]
        return F.pad(shorter.expand(-1, self.alphabet), (0, 1), value=True)

    def step(self, states: Tensor, action: Tensor) -> Tensor:
        legal(action, self.allowed(states)[:, :-1], "appends to a sequence that is full")
        return states.scatter(1, self.level(states)[:, None], action[:, None] + 1)

    def undoable(self, states: Tensor) -> Tensor:
        last = states.gather(1, (self.level(states) - 1).clamp(min=0)[:, None])  # 0 of the empty one
        return last == torch.arange(1, self.alphabet + 1, device=states.device)

    def undo(self, states: Tensor, action: Tensor) -> Tensor:
        legal(action, self.undoable(states), "removes a letter that is not the last")
        return states.scatter(1, self.level(states)[:, None] - 1, 0)

    def log_reward(self, x: Tensor) -> Tensor:
        self._check(x)
        return F.pad(self.letters, (1, 0)).to(x.device)[x] @ self.places.to(x.device)

    def features(self, states: Tensor) -> Tensor:
        """One-hot, with one for "nothing yet", [N, N·(D+1)]."""
        return F.one_hot(states, self.alphabet + 1).flatten(1).double()

    @property
    def log_z(self) -> Tensor:
        """[]: log Σ_{k≤N} Π_{i≤k} Σ_d exp(g(i) f(d)), nats: given its length, the letters are independent."""
        place = (self.places[:, None] * self.letters).logsumexp(1)
        return F.pad(place.cumsum(0), (1, 0)).logsumexp(0)

    def states(self) -> Tensor:
        """By length, then as words: row i is the i-th number written with the digits 1…D."""
        listable(sum(self.alphabet**k for k in range(self.longest + 1)), "sequences")
        level = [self.initial(1)]
        for k in range(self.longest):
            level.append(level[-1].repeat_interleave(self.alphabet, 0))
            level[-1][:, k] = torch.arange(1, self.alphabet + 1).repeat(len(level[-2]))
        return torch.cat(level)

    def index(self, states: Tensor) -> Tensor:
        self._check(states)
        listable(sum(self.alphabet**k for k in range(self.longest + 1)), "sequences")
        row = torch.zeros_like(states[:, 0])
        for letter in states.unbind(1):
            row = torch.where(letter > 0, row * self.alphabet + letter, row)
        return row

    def _check(self, x: Tensor) -> None:
        state_tensor(x, self.longest, "sequences")
        if len(x) and not (x.min() >= 0 and x.max() <= self.alphabet):
            raise ValueError(f"letters are 1…{self.alphabet}, and 0 where there is none")
        if ((x[:, :-1] == 0) & (x[:, 1:] > 0)).any():
            raise ValueError("a letter follows where a sequence has ended")
