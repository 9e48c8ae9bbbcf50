"""The Schrödinger bridge between two given distributions, by iterative proportional fitting of P_F and P_B."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mlegfn.data import planar
from mlegfn.data.mmd import mmd2_unbiased, mmd_floor
from mlegfn.data.planar_density import log_density
from mlegfn.families._gaussian_bridge import Chain, Gaussian, bridge_moments, coupling
from mlegfn.families.family import Check, Family, Fit, Panel
from mlegfn.families.fitting import bounds, log_weights, train
from mlegfn.networks.mlp import TimeMLP
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import score, step_index

PROBLEMS = ("8gaussians", "moons")  # x_T and x_0
VARIANCE = 0.5  # σ² of the reference in units where both ends have variance 1
FIXED = False
ITERATIONS = 5  # of both half-steps


def step_variances(timesteps, variance):
    """[T] float64: the reference's variance of each step; they sum to σ². Short steps at the ends, where details
    are, long ones between (De Bortoli et al. 2021, §5)."""
    t = torch.arange(1, timesteps + 1, dtype=torch.float64)
    weight = torch.minimum(t, timesteps + 1 - t)
    return variance * weight / weight.sum()


class Planar:
    """A planar problem as an endpoint, in the units in which ``points`` have mean 0 and variance 1."""

    def __init__(self, problem, points):
        self.problem, self.mean, self.std = problem, points.mean(0), points.std(0)

    def log_prob(self, x):
        return (log_density(self.problem, x * self.std + self.mean) + self.std.double().log().sum()).to(x.dtype)

    def sample(self, count, generator):
        return (planar.sample(self.problem, count, generator) - self.mean) / self.std


class Affine(nn.Module):
    """(x [N, d], time int64 [N] in 0…T−1) → drift [N, d], affine in x at each time: all that Gaussians need."""

    def __init__(self, timesteps, dimension):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(timesteps, dimension, dimension))
        self.shift = nn.Parameter(torch.zeros(timesteps, dimension))

    def forward(self, x, time):
        return (self.weight[time] @ x[..., None])[..., 0] + self.shift[time]


class Kernel(nn.Module):
    """One policy: N(x + drift(x, t), v_t (WᵀW)⁻¹), v_t the reference's variance of step t, W = W_t lower
    triangular [d, d], at first I. With ``fixed`` it stays that."""

    def __init__(self, drift, variances, dimension, fixed=False):
        super().__init__()
        self.drift = drift
        self.register_buffer("std", variances.sqrt().to(next(drift.parameters()).dtype))
        # Below the diagonal W itself, on it log W.
        self.whitening = nn.Parameter(
            torch.zeros(len(variances), dimension, dimension, dtype=self.std.dtype), requires_grad=not fixed
        )

    def factor(self):
        """W / √v_t, [T, d, d]."""
        diagonal = self.whitening.diagonal(dim1=1, dim2=2).exp()
        return (self.whitening.tril(-1) + torch.diag_embed(diagonal)) / self.std[:, None, None]

    def log_prob(self, after, before, t):
        """[N]: log density of the step of time t from ``before`` to ``after``."""
        factor, time = self.factor(), t - 1
        z = (F.embedding(time, factor.flatten(1)).view(-1, *factor.shape[1:])
             @ (after - before - self.drift(before, time))[..., None])[..., 0]
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return F.embedding(time, log_det[:, None])[:, 0] - (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2

    def step(self, before, t, generator):
        """A draw of the step of time ``t``, a number."""
        noise = torch.randn(before.shape, generator=generator, dtype=before.dtype)
        scaled = torch.linalg.solve_triangular(self.factor()[t - 1], noise.T, upper=False).T
        return before + self.drift(before, torch.full((len(before),), t - 1)) + scaled

    def chain(self, start, order):
        """What it does from a Gaussian ``start``, where the drift is ``Affine``; ``order`` of its steps, [T]."""
        eye = torch.eye(self.drift.shift.shape[1], dtype=self.std.dtype)
        precision = self.factor().mT @ self.factor()
        return Chain(
            start,
            (eye + self.drift.weight)[order].detach(),
            self.drift.shift[order].detach(),
            torch.linalg.inv(precision)[order].detach(),
        )

    @torch.no_grad()
    def set(self, chain, order):
        """Become ``chain``, the inverse of :meth:`chain`."""
        eye = torch.eye(self.drift.shift.shape[1], dtype=self.std.dtype)
        self.drift.weight[order] = chain.gain - eye
        self.drift.shift[order] = chain.shift
        factor = torch.linalg.inv(torch.linalg.cholesky(chain.noise)) * self.std[order, None, None]
        self.whitening[order] = factor.tril(-1) + torch.diag_embed(factor.diagonal(dim1=1, dim2=2).log())


class Bridge(Family):
    """Of all processes with p(x_0) the data's and p(x_T) the prior's, the one nearest, in D_KL of trajectories, to
    a Brownian motion. Iterative proportional fitting (De Bortoli et al. 2021, arXiv 2106.01357) finds it by

        P_B ← argmin D_KL(P_F‖P_B), τ from the prior by P_F;    P_F ← argmin D_KL(P_B‖P_F), τ from data by P_B

    starting from P_F = the Brownian motion: in turn, a GFlowNet's trajectory KL in which one policy is fixed. At
    the end both are one measure of trajectories: trajectory balance, log w(τ) = log p(x_0) for every τ.
    """

    title = "Schrödinger bridge"
    order = 30
    policies = ("N(x_t + f_θ(x_t, t), Σ_θ(t)), learned", "N(x_{t−1} + b_φ(x_{t−1}, t), Σ_φ(t)), learned")
    deterministic = "neither"
    objective = "KL-trajectory both ways in turn: D_KL(P_F‖P_B) for P_B, D_KL(P_B‖P_F) for P_F"
    data = f"planar: {PROBLEMS[0]} to {PROBLEMS[1]}"

    def __init__(self, prior, drifts, variances, dimension, fixed=False):
        """:param prior: p(x_T), with ``log_prob`` and ``sample``
        :param drifts: networks (x [N, d], time) → [N, d] of P_F and of P_B
        :param variances: [T], the reference's
        """
        super().__init__()
        self.timesteps, self.shape, self.prior = len(variances), (dimension,), prior
        self.forward_policy, self.backward_policy = (
            Kernel(drift, variances, dimension, fixed) for drift in drifts
        )

    def log_prior(self, x_T):
        return self.prior.log_prob(x_T)

    def log_pf(self, x_prev, x_t, t):
        return self.forward_policy.log_prob(x_prev, x_t, t)

    def log_pb(self, x_prev, x_t, t):
        return self.backward_policy.log_prob(x_t, x_prev, t)

    @torch.no_grad()
    def sample_pb(self, x0, generator):
        states = [x0]
        for t in range(1, self.timesteps + 1):
            states.append(self.backward_policy.step(states[-1], t, generator))
        return torch.stack(states)

    @torch.no_grad()
    def sample_pf(self, shape, generator):
        states = [self.prior.sample(shape[0], generator)]
        for t in range(self.timesteps, 0, -1):
            states.append(self.forward_policy.step(states[-1], t, generator))
        return torch.stack(states[::-1])

    @classmethod
    def affine(cls, prior, variances, fixed=False):
        """float64, affine drifts, at first the reference both ways."""
        dimension = len(prior.mean)
        drifts = [Affine(len(variances), dimension).double() for _ in range(2)]
        return cls(prior, drifts, variances, dimension, fixed)

    def chains(self, p_0):
        """(P_F from the prior, P_B from ``p_0``) as ``Chain``s, where all is Gaussian."""
        order = torch.arange(self.timesteps)
        return self.forward_policy.chain(self.prior, order.flip(0)), self.backward_policy.chain(p_0, order)

    def fit_policy(self, name, states, settings, *key):
        """One half-step: maximum likelihood of P_F or P_B (``name``) on trajectories ``states`` of the other, i.e.
        min D_KL(other‖it), of whose gradient a batch of random (trajectory, t) is an unbiased estimate."""
        log_prob, policy = {
            "P_F": (self.log_pf, self.forward_policy),
            "P_B": (self.log_pb, self.backward_policy),
        }[name]
        t = step_index(self.timesteps, states.shape[1])
        x_prev, x_t = states[:-1].flatten(0, 1), states[1:].flatten(0, 1)

        def loss(step):
            rows = torch.randint(len(t), (settings.batch,), generator=generator(*key, step))
            return -log_prob(x_prev[rows], x_t[rows], t[rows]).mean()

        train(policy.parameters(), loss, settings)

    def iterate(self, draw_data, count, settings, iterations, *key):
        """``iterations`` of both half-steps, each on ``count`` fresh trajectories; ``settings.steps`` in all.

        :param draw_data: (count, generator) → x_0
        """
        each = settings.model_copy(update={"steps": max(1, settings.steps // (2 * iterations))})
        for n in range(iterations):
            states = self.sample_pf((count, *self.shape), generator(*key, n, "P_F"))
            self.fit_policy("P_B", states, each, *key, n, "fit P_B")
            states = self.sample_pb(draw_data(count, generator(*key, n, "data")), generator(*key, n, "P_B"))
            self.fit_policy("P_F", states, each, *key, n, "fit P_F")

    @classmethod
    def tiny(cls, dtype=torch.float64, seed=0):
        """Wide ends and short steps: then x_t + small drifts both ways are near balance."""
        prior = Gaussian(
            torch.tensor([0.3, -0.2], dtype=dtype), torch.tensor([[4.0, 0.6], [0.6, 3.0]], dtype=dtype)
        )
        with torch.random.fork_rng([]):
            seed_layers(seed, "bridge", "tiny")
            model = cls(
                prior, [TimeMLP(3, 8, 1).to(dtype) for _ in range(2)], step_variances(3, 0.4).to(dtype), 2
            )
            for policy in (model.forward_policy, model.backward_policy):
                for layer in (policy.drift.exit, policy.drift.time):
                    nn.init.normal_(layer.weight, std=0.02)
                    nn.init.normal_(layer.bias, std=0.02)
                nn.init.normal_(policy.whitening, std=0.05)
        return model

    @classmethod
    def checks(cls, settings):
        return []

    @classmethod
    def fit(cls, settings, seed):
        start, end = (
            planar.sample(problem, settings.train_points, generator(seed, "bridge", problem, "train"))
            for problem in PROBLEMS
        )
        prior, data = Planar(PROBLEMS[0], start), Planar(PROBLEMS[1], end)
        points = (end - data.mean) / data.std
        with torch.random.fork_rng([]):
            seed_layers(seed, "bridge", "init")
            drifts = [TimeMLP(settings.timesteps, settings.hidden, 2) for _ in range(2)]
        for drift in drifts:  # the time's linear part is not 0 at first, and the reference has no drift
            nn.init.zeros_(drift.time.weight[-1:])
            nn.init.zeros_(drift.time.bias[-1:])
        model = cls(prior, drifts, step_variances(settings.timesteps, VARIANCE), 2, fixed=FIXED)

        def draw(count, generator):
            return points[torch.randint(len(points), (count,), generator=generator)]

        model.iterate(draw, settings.train_points, settings, ITERATIONS, seed, "bridge")
        return model, prior, data
