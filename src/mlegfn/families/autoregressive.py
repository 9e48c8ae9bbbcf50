"""Autoregressive models: every state has one parent, so P_B is deterministic and the likelihood is exact."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from zuko.nn import MaskedMLP

from mlegfn.families.shared.comparing import gradient, largest, relative
from mlegfn.families.shared.family import Check, Family, Fit, Panel
from mlegfn.families.shared.fitting import log_weights, train
from mlegfn.families.shared.orders.levels import EMPTY, all_of, digits_rows, log_frequencies, unary
from mlegfn.randomness import generator, seed_layers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Settings

__all__ = ["Autoregressive"]

# Times the sum of squared weights. The images are few: without it, bits/dim of training images fall and those of
# others rise. Of 0, 1e-4, 3e-4 and 1e-3 the best on a sixth of the training images, held out.
PENALTY = 3e-4


class Autoregressive(Family):
    """Entries are filled in a fixed order; a state is a prefix, −1 where nothing stands yet.

    x_T is empty, the step x_t → x_{t−1} appends entry T−t, so P_B removes the last one: one parent, P_B = 1.
    Trajectory balance then *is* maximum likelihood: log w(τ) = Σ log P_F = log p(x) for the one τ there is, and
    the (forward) KL-trajectory balance D_KL(P_B‖P_F) = −log p(x) + const.

    The network is MADE (Germain et al. 2015, arXiv 1502.03509): all conditionals in one pass, output i reads
    inputs < i only.
    """

    title = "Autoregressive model"
    order = 40
    policies = ("Cat(x_i | x_<i), MADE", "remove the last entry")
    deterministic = "P_B"
    objective = "KL-TB = −log p(x), the exact likelihood"
    data = "digits, 8×8, 17 levels"

    def __init__(self, length: int, levels: int, hidden: int, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.timesteps, self.shape, self.levels = length, (length,), levels
        adjacency = torch.ones(length, length, dtype=torch.bool).tril(-1)
        adjacency = adjacency.repeat_interleave(levels, 0).repeat_interleave(levels, 1)
        self.network = MaskedMLP(adjacency, (hidden, hidden), activation=torch.nn.ELU)
        if dtype is not None:
            self.to(dtype)

    def logits(self, x: Tensor) -> Tensor:
        """[N, D, levels], entry i from x_<i alone; x int64 [N, D], −1 where empty."""
        inputs = unary(x, self.levels).flatten(1).to(next(self.parameters()).dtype)
        logits: Tensor = self.network(inputs).view(len(x), *self.shape, self.levels)
        return logits

    def log_prior(self, x_T: Tensor) -> Tensor:
        return self._where((x_T == EMPTY).all(1))

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        place = (self.timesteps - t)[:, None]
        logits = self.logits(x_t).gather(1, place[..., None].expand(-1, 1, self.levels))[:, 0]
        value = x_prev.gather(1, place)
        log_prob = logits.log_softmax(1).gather(1, value.clamp(min=0))[:, 0]
        return log_prob + self._where(self._is_step(x_prev, x_t, t))

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self._where(self._is_step(x_prev, x_t, t))

    def _is_step(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """bool [N]: x_prev is x_t with one more entry, the one whose turn it is."""
        place = torch.arange(self.timesteps, device=t.device)[None]
        filled = self.timesteps - t[:, None]
        before = (place < filled) & (x_prev == x_t) & (x_t >= 0)
        after = (place > filled) & (x_prev == EMPTY) & (x_t == EMPTY)
        turn = (place == filled) & (x_prev >= 0) & (x_t == EMPTY)
        return (before | after | turn).all(1)

    def _where(self, allowed: Tensor) -> Tensor:
        """0 where ``allowed``, −∞ elsewhere."""
        zero = torch.zeros(len(allowed), dtype=next(self.parameters()).dtype, device=allowed.device)
        return zero.masked_fill(~allowed, -math.inf)

    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        place = torch.arange(self.timesteps, device=x0.device)
        filled = torch.arange(self.timesteps, -1, -1, device=x0.device)
        return torch.where(place < filled[:, None, None], x0[None], EMPTY)

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        states = [torch.full(shape, EMPTY)]
        for place in range(self.timesteps):
            probability = self.logits(states[-1])[:, place].softmax(1)
            value = torch.multinomial(probability, 1, generator=generator)[:, 0]
            states.append(states[-1].clone())
            states[-1][:, place] = value
        return torch.stack(states[::-1])

    def log_prob(self, x: Tensor) -> Tensor:
        return self.logits(x).log_softmax(2).gather(2, x[..., None])[..., 0].sum(1)

    def domain(self) -> Tensor | None:
        return all_of(self.timesteps, self.levels)

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        with torch.random.fork_rng([]):
            seed_layers(seed, "autoregressive", "tiny")
            return cls(length=3, levels=3, hidden=16, dtype=dtype)

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        model = cls.tiny()
        x = cast("Tensor", model.domain())  # so few can be enumerated
        trajectory = log_weights(model, x, 1, generator(0, "autoregressive"))[:, 0]
        exact = model.log_prob(x)
        gradients = [gradient(value.sum(), model.parameters()) for value in (trajectory, exact)]
        # Sums of a few terms of order 1 in float64, 1e-16 each; gradients a little more.
        return [
            Check(
                "log w of the one trajectory of x, and log p(x) in one pass",
                largest(trajectory, exact),
                1e-12,
                "nats",
            ),
            Check("their gradients", relative(*gradients), 1e-10),
            Check("Σ_x p(x) = 1 over all x", abs(exact.exp().sum().item() - 1), 1e-12, "absolute"),
        ]

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        train_x, test_x, levels = digits_rows(settings)
        with torch.random.fork_rng([]):
            seed_layers(seed, "autoregressive", "init")
            model = cls(train_x.shape[1], levels, settings.hidden)
        independent = log_frequencies(train_x, levels)
        with torch.no_grad():
            model.network[-1].bias.copy_(independent.flatten())
        weights = [p for name, p in model.named_parameters() if name.endswith("weight")]

        def loss(step: int) -> Tensor:
            rng = generator(seed, "autoregressive", step)
            rows = torch.randint(len(train_x), (settings.batch,), generator=rng)
            penalty = PENALTY * sum(weight.square().sum() for weight in weights)
            return penalty - model.log_prob(train_x[rows]).mean() / train_x.shape[1]

        train(model.parameters(), loss, settings, f"autoregressive {seed}")
        with torch.no_grad():
            nll = -model.log_prob(test_x).mean().item() / test_x.shape[1]
        baseline = -independent.gather(1, test_x.T).mean().item()
        samples = model.sample_pf((64, *model.shape), generator(seed, "autoregressive", "sample"))[0]
        return Fit(
            model,
            {
                "test NLL, bits/dim (exact)": nll / math.log(2),
                "the same of independent entries, bits/dim (exact)": baseline / math.log(2),
            },
            [
                Panel(title, "images", x.view(-1, 8, 8) / (levels - 1))
                for title, x in (("data", train_x[:64]), ("samples", samples))
            ],
        )
