"""Autoregressive models: every state has one parent, so P_B is deterministic and the likelihood is exact."""

import math

import torch
from torch.nn import functional as F
from zuko.nn import MaskedMLP

from mlegfn.data import digits
from mlegfn.families.family import Check, Family, Fit, Panel
from mlegfn.families.fitting import log_weights, train
from mlegfn.randomness import generator, seed_layers

EMPTY = -1


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

    def __init__(self, length, levels, hidden, dtype=None):
        super().__init__()
        self.timesteps, self.shape, self.levels = length, (length,), levels
        adjacency = torch.ones(length, length, dtype=torch.bool).tril(-1)
        adjacency = adjacency.repeat_interleave(levels, 0).repeat_interleave(levels, 1)
        self.network = MaskedMLP(adjacency, (hidden, hidden), activation=torch.nn.ELU)
        if dtype is not None:
            self.to(dtype)

    def logits(self, x):
        """[N, D, levels], entry i from x_<i alone; x int64 [N, D], −1 where empty."""
        onehot = F.one_hot(x.clamp(min=0), self.levels) * (x >= 0)[..., None]
        weight = next(self.parameters())
        return self.network(onehot.flatten(1).to(weight.dtype)).view(len(x), *self.shape, self.levels)

    def log_prior(self, x_T):
        return self._where((x_T == EMPTY).all(1))

    def log_pf(self, x_prev, x_t, t):
        place = (self.timesteps - t)[:, None]
        logits = self.logits(x_t).gather(1, place[..., None].expand(-1, 1, self.levels))[:, 0]
        value = x_prev.gather(1, place)
        log_prob = logits.log_softmax(1).gather(1, value.clamp(min=0))[:, 0]
        return log_prob + self._where(self._is_step(x_prev, x_t, t))

    def log_pb(self, x_prev, x_t, t):
        return self._where(self._is_step(x_prev, x_t, t))

    def _is_step(self, x_prev, x_t, t):
        """bool [N]: x_prev is x_t with one more entry, the one whose turn it is."""
        place = torch.arange(self.timesteps, device=t.device)[None]
        filled = self.timesteps - t[:, None]
        before = (place < filled) & (x_prev == x_t) & (x_t >= 0)
        after = (place > filled) & (x_prev == EMPTY) & (x_t == EMPTY)
        turn = (place == filled) & (x_prev >= 0) & (x_t == EMPTY)
        return (before | after | turn).all(1)

    def _where(self, allowed):
        """0 where ``allowed``, −∞ elsewhere."""
        zero = torch.zeros(len(allowed), dtype=next(self.parameters()).dtype, device=allowed.device)
        return zero.masked_fill(~allowed, -math.inf)

    def sample_pb(self, x0, generator):
        place = torch.arange(self.timesteps, device=x0.device)
        filled = torch.arange(self.timesteps, -1, -1, device=x0.device)
        return torch.where(place < filled[:, None, None], x0[None], EMPTY)

    @torch.no_grad()
    def sample_pf(self, shape, generator):
        states = [torch.full(shape, EMPTY)]
        for place in range(self.timesteps):
            probability = self.logits(states[-1])[:, place].softmax(1)
            value = torch.multinomial(probability, 1, generator=generator)[:, 0]
            states.append(states[-1].clone())
            states[-1][:, place] = value
        return torch.stack(states[::-1])

    def log_prob(self, x):
        return self.logits(x).log_softmax(2).gather(2, x[..., None])[..., 0].sum(1)

    def domain(self):
        if self.levels**self.timesteps > 2**16:
            return None
        return torch.cartesian_prod(*[torch.arange(self.levels)] * self.timesteps).view(-1, self.timesteps)

    @classmethod
    def tiny(cls, dtype=torch.float64, seed=0):
        with torch.random.fork_rng([]):
            seed_layers(seed, "autoregressive", "tiny")
            return cls(length=3, levels=3, hidden=16, dtype=dtype)

    @classmethod
    def checks(cls, settings):
        model = cls.tiny()
        x = model.domain()
        trajectory = log_weights(model, x, 1, generator(0, "autoregressive"))[:, 0]
        exact = model.log_prob(x)
        gradients = [
            torch.cat([g.flatten() for g in torch.autograd.grad(v.sum(), list(model.parameters()))])
            for v in (trajectory, exact)
        ]
        return [
            Check(
                "log w of the one trajectory of x, and log p(x) in one pass",
                (trajectory - exact).abs().max().item(),
                1e-12,
                "nats",
            ),
            Check("their gradients", _relative(*gradients), 1e-10),
            Check("Σ_x p(x) = 1 over all x", abs(exact.exp().sum().item() - 1), 1e-12, "absolute"),
        ]

    @classmethod
    def fit(cls, settings, seed):
        data = digits.load()
        train_x = data.train_images.flatten(1).long()[: settings.train_points]
        test_x = data.test_images.flatten(1).long()[: settings.test_points]
        with torch.random.fork_rng([]):
            seed_layers(seed, "autoregressive", "init")
            model = cls(train_x.shape[1], data.levels, settings.hidden)

        def loss(step):
            rows = torch.randint(
                len(train_x), (settings.batch,), generator=generator(seed, "autoregressive", step)
            )
            return -model.log_prob(train_x[rows]).mean() / train_x.shape[1]

        train(model.parameters(), loss, settings, f"autoregressive {seed}")
        with torch.no_grad():
            nll = -model.log_prob(test_x).mean().item()
        samples = model.sample_pf((64, *model.shape), generator(seed, "autoregressive", "sample"))[0]
        unit = data.levels - 1
        return Fit(
            model,
            {"test NLL, bits/dim (exact)": nll / test_x.shape[1] / math.log(2)},
            [
                Panel("data", "images", train_x[:64].view(-1, 8, 8) / unit),
                Panel("samples", "images", samples.view(-1, 8, 8) / unit),
            ],
        )


def _relative(a, b):
    return ((a - b).norm() / b.norm()).item()
