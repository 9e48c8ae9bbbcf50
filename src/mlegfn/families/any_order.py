"""Any-order autoregressive models: a state has many parents, so the ELBO is a bound, and P_B can be learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from zuko.nn import MLP

from mlegfn.families.shared.comparing import gradient, largest, relative
from mlegfn.families.shared.family import Check, Family, Fit, Panel
from mlegfn.families.shared.fitting import bounds, train
from mlegfn.families.shared.orders.levels import EMPTY, all_of, digits_rows, log_frequencies, unary
from mlegfn.families.shared.orders.subsets import exact, orders
from mlegfn.families.shared.orders.tightening import policies, tightened
from mlegfn.objectives.consistency import consistency
from mlegfn.objectives.kl_balance import kl_trajectory_balance
from mlegfn.randomness import generator, seed_layers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Settings

__all__ = ["AnyOrder"]

NEVER = -1e30  # the logit of a place that may not be chosen; finite, so that a gradient stays finite


class AnyOrder(Family):
    """Entries are filled in any order; a state is a partial object, −1 where nothing stands yet.

    The step x_t → x_{t−1} fills one of the t empty entries: P_F chooses the place, then its value,
    P_F(i, v|s) = P(i|s) P(v|s, i). P_B erases one of the filled entries. All D! orders lead to every x, so
    p(x) is a sum over orders and the ELBO is strict unless P_B is P_F's own posterior over orders.

    A *random* P_B erases uniformly; then the place that P_F fills is uniform at the optimum, and taken so: the
    order-agnostic model of Uria et al. 2014 (arXiv 1310.1757) and Hoogeboom et al. 2022 (arXiv 2110.02037). A
    *learned* P_B has a network's logits over filled entries, and P_F a head for the place.
    """

    title = "Any-order autoregressive model"
    order = 41
    policies = ("place, then value: Cat(i | s) Cat(x_i | s)", "erase one entry, uniform or learned")
    deterministic = "neither"
    objective = "KL-TB = −ELBO + const, over random orders"
    data = "digits, 8×8, 17 levels"

    def __init__(
        self,
        length: int,
        levels: int,
        hidden: int,
        backward_hidden: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.timesteps, self.shape, self.levels = length, (length,), levels
        inputs, outputs = length * levels, length * (levels + (backward_hidden is not None))
        self.forward_policy = MLP(inputs, outputs, (hidden, hidden), nn.ELU)
        self.backward_policy: nn.Sequential | None = None
        if backward_hidden is not None:
            self.backward_policy = MLP(inputs, length, (backward_hidden,), nn.ELU)
        if dtype is not None:
            self.to(dtype)

    def _network(self, network: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = network(unary(x, self.levels).flatten(1).to(next(self.parameters()).dtype))
        return out

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(logits of the values [N, D, levels], logits of the place [N, D]) in state x [N, D]."""
        out = self._network(self.forward_policy, x).view(len(x), *self.shape, -1)
        place = out[..., self.levels] if self.backward_policy is not None else torch.zeros_like(out[..., 0])
        return out[..., : self.levels], place.masked_fill(x != EMPTY, NEVER)

    def _backward(self, x: Tensor) -> Tensor:
        """Logits [N, D] of the entry that is erased from state x [N, D]."""
        weight = next(self.parameters())
        logits = (
            torch.zeros(x.shape, dtype=weight.dtype, device=x.device)
            if self.backward_policy is None
            else self._network(self.backward_policy, x)
        )
        return logits.masked_fill(x == EMPTY, NEVER)

    def log_prior(self, x_T: Tensor) -> Tensor:
        return self._where((x_T == EMPTY).all(1))

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        place, allowed = self._step(x_prev, x_t, t)
        values, places = self._forward(x_t)
        values = values.gather(1, place[..., None].expand(-1, 1, self.levels))[:, 0]
        value = x_prev.gather(1, place).clamp(min=0)
        return (places.log_softmax(1).gather(1, place) + values.log_softmax(1).gather(1, value))[
            :, 0
        ] + self._where(allowed)

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        place, allowed = self._step(x_prev, x_t, t)
        return self._backward(x_prev).log_softmax(1).gather(1, place)[:, 0] + self._where(allowed)

    def _step(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(place [N, 1] that the step fills, allowed bool [N]: t entries are empty, and that one alone differs)."""
        differs = x_prev != x_t
        place = differs.byte().argmax(1, keepdim=True)
        fills = (x_t.gather(1, place) == EMPTY) & (x_prev.gather(1, place) != EMPTY)
        allowed = (differs.sum(1) == 1) & fills[:, 0] & ((x_t == EMPTY).sum(1) == t)
        return place, allowed

    def _where(self, allowed: Tensor) -> Tensor:
        """0 where ``allowed``, −∞ elsewhere."""
        zero = torch.zeros(len(allowed), dtype=next(self.parameters()).dtype, device=allowed.device)
        return zero.masked_fill(~allowed, -math.inf)

    @torch.no_grad()
    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        if self.backward_policy is None:  # all at once: a random order
            rank = torch.rand(x0.shape, generator=generator).argsort(1)
            filled = torch.arange(self.timesteps, -1, -1)
            return torch.where(rank < filled[:, None, None], x0[None], EMPTY)
        states = [x0]
        for _ in range(self.timesteps):
            place = draw(self._backward(states[-1]), generator)
            states.append(states[-1].scatter(1, place, EMPTY))
        return torch.stack(states)

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        states = [torch.full(shape, EMPTY)]
        for _ in range(self.timesteps):
            values, places = self._forward(states[-1])
            place = draw(places, generator)
            values = values.gather(1, place[..., None].expand(-1, 1, self.levels))[:, 0]
            states.append(states[-1].scatter(1, place, draw(values, generator)))
        return torch.stack(states[::-1])

    def log_prob(self, x: Tensor) -> Tensor:
        """By the sum over subsets; NotImplementedError where they are too many."""
        if self.timesteps > 10:
            raise NotImplementedError(f"2^{self.timesteps} subsets are too many")
        return exact(self, x).log_p

    def domain(self) -> Tensor | None:
        return all_of(self.timesteps, self.levels)

    def one_step(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """[N]: an unbiased estimate of −ELBO, nats, from one random step of each x, for a random P_B.

            −ELBO = Σ_t E_S [mean over the t empty entries i of −log P(x_i | x_S)],   S a random set of D − t entries

        (Hoogeboom et al. 2022, §2): one t, spread evenly over the batch, one S, and all i at once.
        """
        spread = (torch.arange(len(x)) + torch.rand(len(x), generator=generator)) / len(x)
        rank = torch.rand(x.shape, generator=generator).argsort(1)
        return self.step_bound(x, rank <= (spread * self.timesteps).long()[:, None])

    def step_bound(self, x: Tensor, empty: Tensor) -> Tensor:
        """[N]: D · the mean of −log P(x_i | x_S) over the entries i ∉ S that are ``empty``, bool [N, D]."""
        values, _ = self._forward(x.masked_fill(empty, EMPTY))
        nll = -values.log_softmax(2).gather(2, x[..., None])[..., 0]
        return self.timesteps * (nll * empty).sum(1) / empty.sum(1)

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        with torch.random.fork_rng([]):
            seed_layers(seed, "any_order", "tiny")
            return cls(length=3, levels=3, hidden=16, backward_hidden=16, dtype=dtype)

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        model = cls.tiny()
        x = cast("Tensor", model.domain())  # so few can be enumerated
        q = torch.randn(len(x), generator=generator(0, "any_order", "q"), dtype=torch.float64).softmax(0)
        states = orders(x)
        forward, backward = policies(model, states.flatten(1, 2), states.shape[2])  # [N, D!]
        by_sets = exact(model, x)
        elbo = (backward.exp() * (forward - backward)).sum(1)
        joint = q.log()[:, None] + backward
        divergence = (joint.exp() * (joint - forward)).sum()
        value = -(q * by_sets.elbo).sum() + (q * q.log()).sum()
        # E of the estimator over every pair of trajectories, each pair with its probability, which is no part of it
        first, second = torch.cartesian_prod(*[torch.arange(states.shape[2])] * 2).T
        weight = (q[:, None] * (backward[:, first] + backward[:, second]).exp()).detach().flatten()
        pairs = [torch.stack([v[:, first], v[:, second]], 2).flatten(0, 1) for v in (forward, backward)]
        estimated = gradient((weight * kl_trajectory_balance(*pairs)).sum(), model.parameters())
        chosen = list(cast("nn.Module", model.backward_policy).parameters())  # a tiny one has it
        score_function = gradient(kl_trajectory_balance(*pairs).sum(), chosen)
        variance = gradient(consistency(pairs[0] - pairs[1]).sum() / 2, chosen)
        # Sums of at most a few hundred terms of order 1 in float64, 1e-16 each; gradients a little more.
        return [
            Check(
                "log p(x) by a sum over subsets, and over all D! orders",
                largest(by_sets.log_p, forward.logsumexp(1)),
                1e-12,
                "nats",
            ),
            Check(
                "ELBO by a sum over subsets, and over all D! orders",
                largest(by_sets.elbo, elbo),
                1e-12,
                "nats",
            ),
            Check("D_KL(q P_B‖P_F) = −ELBO − H(q)", largest(divergence, value), 1e-12, "nats"),
            Check(
                "∇ D_KL(q P_B‖P_F), enumerated, and E of the score-function estimator's, P_B's part too",
                relative(estimated, gradient(divergence, model.parameters())),
                1e-10,
            ),
            Check(
                "P_B's gradient: that of KL-TB, and half of TBC's on the same trajectories",
                relative(score_function, variance),
                1e-10,
            ),
            Check(
                "log p(x) − ELBO with P_F's posterior over orders as P_B",
                largest(by_sets.log_p, by_sets.posterior),
                1e-12,
                "nats",
            ),
            Check(
                "Σ_x p(x) = 1 over all x",
                largest(by_sets.log_p.exp().sum(), torch.ones(())),
                1e-12,
                "absolute",
            ),
        ]

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        train_x, test_x, levels = digits_rows(settings)
        with torch.random.fork_rng([]):
            seed_layers(seed, "any_order", "init")
            model = cls(train_x.shape[1], levels, settings.hidden)
        with torch.no_grad():
            model.forward_policy[-1].bias.copy_(log_frequencies(train_x, levels).flatten())

        def loss(step: int) -> Tensor:
            rng = generator(seed, "any_order", step)
            rows = torch.randint(len(train_x), (settings.batch,), generator=rng)
            return model.one_step(train_x[rows], rng).mean() / train_x.shape[1]

        train(model.parameters(), loss, settings, f"any-order {seed}")
        count, unit = settings.trajectories, test_x.shape[1] * math.log(2)
        low, high = bounds(model, test_x, count, generator(seed, "any_order", "test"), batch=128)
        scores = {
            f"test −ELBO, bits/dim ({count} orders)": -low.mean().item() / unit,
            f"test NLL, bits/dim (importance-weighted, K = {count})": -high.mean().item() / unit,
        }
        for name, measured in tightened(cls, settings.steps, seed).items():
            scores[f"5 bits, enumerated: NLL above the best, nats ({name})"] = measured["NLL"]
            scores[f"5 bits, enumerated: log p(x) − ELBO, nats ({name})"] = measured["gap"]
        path = model.sample_pf((64, *model.shape), generator(seed, "any_order", "sample"))
        shown = path[[48, 32, 16, 0], :16].flatten(0, 1)  # 16, 32, 48 and 64 entries are there
        return Fit(
            model,
            scores,
            [
                Panel("data", "images", train_x[:64].view(-1, 8, 8) / (levels - 1)),
                Panel("samples", "images", path[0].view(-1, 8, 8) / (levels - 1)),
                Panel(
                    "16, 32, 48, 64 entries filled",
                    "images",
                    shown.clamp(min=0).view(-1, 8, 8) / (levels - 1),
                ),
            ],
        )


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """[N, 1]: one draw of each row's categorical distribution."""
    return torch.multinomial(logits.softmax(1), 1, generator=generator)
