"""Hierarchical VAEs: Gaussian policies both ways between layers of latents; KL-trajectory balance is their ELBO."""

import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from mlegfn.data import digits
from mlegfn.diffusion.decoder import discretised_log_prob
from mlegfn.families.family import Check, Family, Fit, Panel, by_step
from mlegfn.families.fitting import bounds, log_weights, train
from mlegfn.objectives.bounds import elbo
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import score


class Conditional(nn.Module):
    """x [N, inputs] → mean and log-variance [N, outputs] of N(A x + b + V h, diag exp(c + U h)), with
    h = SiLU(W x + e) [N, hidden]. Without h (hidden = 0) it is affine and everything has a closed form."""

    def __init__(self, inputs, outputs, hidden):
        super().__init__()
        self.affine = nn.Linear(inputs, outputs)
        self.log_variance = nn.Parameter(torch.zeros(outputs))
        self.network = None
        if hidden:
            self.network = nn.Sequential(
                nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, 2 * outputs)
            )

    def forward(self, x):
        mean, log_variance = self.affine(x), self.log_variance.expand(len(x), -1)
        if self.network is None:
            return mean, log_variance
        shift, spread = self.network(x).chunk(2, 1)
        return mean + shift, log_variance + spread


class HVAE(Family):
    """T ≥ 3 layers of latents x_1 … x_T over data x_0, and x_T ~ N(0, I).

    P_F(x_{t−1}|x_t) and P_B(x_t|x_{t−1}) are diagonal Gaussians whose means and variances are networks, one for
    each step and direction: the hierarchy of latents, and the bottom-up encoder (Rezende et al. 2014, arXiv
    1401.4082). Where data have levels, P_F(x_0|x_1) is the Gaussian's mass in each level's bin, the decoder of the
    diffusion models here. E_{P_B} log w is the ELBO, so the KL-trajectory balance D_KL(P_B‖P_F) is −ELBO minus the
    data's entropy, and both policies have the same gradients (Proposition 2): P_B's through the states that it
    draws (the reparameterised gradient), or, without differentiating those, by its score function.

    A state has the data's size; a smaller latent fills its first entries.
    """

    title = "Hierarchical VAE"
    order = 10
    policies = ("N(μ_θ(x_t), diag σ_θ²(x_t)), generative layers", "N(μ_φ(x_{t−1}), diag σ_φ²(x_{t−1})), encoder")
    deterministic = "neither"
    objective = "KL-TB = −ELBO − H(data), minimised in both policies"
    data = "digits, 8×8, 17 levels"

    def __init__(self, sizes, hidden, levels=None, dtype=None):
        """sizes: entries of x_0 … x_T; levels: grey values of the data, evenly on [−1, 1]; None: continuous."""
        super().__init__()
        if len(sizes) < 4 or max(sizes) != sizes[0] or min(sizes) < 1:
            raise ValueError(f"an HVAE here has ≥ 3 latents, none larger than the data, not sizes {sizes}")
        self.sizes, self.levels = tuple(sizes), levels
        self.timesteps, self.shape = len(sizes) - 1, (sizes[0],)
        steps = list(zip(sizes[:-1], sizes[1:]))
        self.up = nn.ModuleList(Conditional(below, above, hidden) for below, above in steps)
        self.down = nn.ModuleList(Conditional(above, below, hidden) for below, above in steps)
        if dtype is not None:
            self.to(dtype)

    def _cut(self, x, t):
        return x[..., : self.sizes[t]]

    def _pad(self, x):
        return F.pad(x, (0, self.sizes[0] - x.shape[1]))

    def log_prior(self, x_T):
        return Normal(0.0, 1.0).log_prob(self._cut(x_T, self.timesteps)).sum(1)

    def log_pf(self, x_prev, x_t, t):
        return by_step(t, self._log_pf, x_prev, x_t)

    def _log_pf(self, step, x_prev, x_t):
        mean, log_variance = self.down[step - 1](self._cut(x_t, step))
        if step == 1 and self.levels:
            return discretised_log_prob(x_prev, mean, log_variance, self.levels)
        return gaussian(self._cut(x_prev, step - 1), mean, log_variance)

    def log_pb(self, x_prev, x_t, t):
        return by_step(t, self._log_pb, x_prev, x_t)

    def _log_pb(self, step, x_prev, x_t):
        return gaussian(self._cut(x_t, step), *self.up[step - 1](self._cut(x_prev, step - 1)))

    def explain(self, x0, noise):
        """[T+1, N, D]: the path of P_B from x_0 [N, D] with ``noise`` [T, N, D], differentiable in P_B."""
        states = [x0]
        for step in range(1, self.timesteps + 1):
            mean, log_variance = self.up[step - 1](self._cut(states[-1], step - 1))
            states.append(self._pad(mean + (log_variance / 2).exp() * self._cut(noise[step - 1], step)))
        return torch.stack(states)

    def sample_pb(self, x0, generator):
        return self.explain(x0, torch.randn(self.timesteps, *x0.shape, generator=generator, dtype=x0.dtype))

    @torch.no_grad()
    def sample_pf(self, shape, generator):
        dtype = next(self.parameters()).dtype
        noise = torch.randn(self.timesteps + 1, *shape, generator=generator, dtype=dtype)
        states = [self._pad(self._cut(noise[-1], self.timesteps))]
        for step in range(self.timesteps, 0, -1):
            mean, log_variance = self.down[step - 1](self._cut(states[-1], step))
            x = mean + (log_variance / 2).exp() * self._cut(noise[step - 1], step - 1)
            states.append(self._pad(self.quantise(x) if step == 1 and self.levels else x))
        return torch.stack(states[::-1])

    def quantise(self, x):
        """The nearest of the data's levels: whose bin x is in."""
        unit = (self.levels - 1) / 2
        return ((x.clamp(-1, 1) + 1) * unit).round() / unit - 1

    @torch.no_grad()
    def rebuild(self, latent, t):
        """x_0 from x_t [N, sizes[t]], by the means of P_F."""
        for step in range(t, 0, -1):
            latent, _ = self.down[step - 1](latent)
        return latent

    @classmethod
    def tiny(cls, dtype=torch.float64, seed=0, hidden=8):
        with torch.random.fork_rng([]):
            seed_layers(seed, "hvae", "tiny")
            model = cls((2, 2, 1, 1), hidden, dtype=dtype)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(0.5)
                for layer in [*model.up, *model.down]:
                    layer.log_variance.normal_(0.0, 0.1)
                model.down[0].log_variance.add_(1.3)  # data about as wide as the property tests' φ
        return model

    @classmethod
    def checks(cls, settings):
        model = cls.tiny(hidden=0)
        policies = {"P_F": list(model.down.parameters()), "P_B": list(model.up.parameters())}
        data = MultivariateNormal(torch.tensor([0.5, -1.0]).double(), torch.tensor([[2.0, 0.9], [0.9, 1.0]]).double())
        divergence, bound = trajectory_kl(model, data), expected_elbo(model, data)
        rows = [
            Check(
                "affine: D_KL(P_B(τ)‖P_F(τ)) of two joint Gaussians + H(data), and −ELBO by the training's own code",
                (divergence + data.entropy() + bound).abs().item(),
                1e-11,
                "nats",
                proposition=2,
            )
        ]
        for name, parameters in policies.items():
            both = [gradient(value, parameters) for value in (divergence, -bound)]
            rows.append(Check(f"their gradients in {name}", relative(*both), 1e-10, proposition=2))
        model = cls.tiny()
        return [
            *rows,
            Check(
                "networks: KL-TB by importance from paths of P_F, and −ELBO − H(data) from paths of P_B",
                value_deviation(model, data, generator(0, "hvae", "value")),
                5.0,
                "standard errors",
                2,
            ),
            Check(
                "networks: gradients in P_B by its score function, and reparameterised; worst parameter",
                gradient_deviation(model, data, generator(0, "hvae", "score function")),
                5.0,
                "standard errors",
                2,
            ),
        ]

    @classmethod
    def fit(cls, settings, seed):
        data = digits.load()
        unit = (data.levels - 1) / 2
        train_x = data.train_images.flatten(1)[: settings.train_points] / unit - 1
        test_x = data.test_images.flatten(1)[: settings.test_points] / unit - 1
        sizes = [max(2, train_x.shape[1] >> t) for t in range(settings.timesteps + 1)]
        with torch.random.fork_rng([]):
            seed_layers(seed, "hvae", "init")
            model = cls(sizes, settings.hidden, data.levels)

        def loss(step):
            rng = generator(seed, "hvae", step)
            rows = torch.randint(len(train_x), (settings.batch,), generator=rng)
            return -log_weights(model, train_x[rows], 1, rng).mean() / train_x.shape[1]

        train(model.parameters(), loss, settings, f"hvae {seed}")
        low, high = bounds(model, test_x, settings.trajectories, generator(seed, "hvae", "test"))
        bits = -1 / (test_x.shape[1] * math.log(2))
        scores = {
            "test NLL, bits/dim (ELBO)": bits * low.mean().item(),
            f"test NLL, bits/dim (importance-weighted, K = {settings.trajectories})": bits * high.mean().item(),
        }
        samples = model.sample_pf((64, *model.shape), generator(seed, "hvae", "sample"))[0]
        with torch.no_grad():
            states = model.sample_pb(test_x[:64], generator(seed, "hvae", "rebuild"))
        pictures = {"data (test)": test_x[:64], "samples": samples}
        for t in (1, model.timesteps):
            pictures[f"data rebuilt from x_{t}"] = model.rebuild(model._cut(states[t], t), t)
        return Fit(
            model,
            scores,
            [Panel(k, "images", (x.view(-1, 8, 8).clamp(-1, 1) + 1) / 2) for k, x in pictures.items()],
        )


def gaussian(x, mean, log_variance):
    """[N]: log N(x; mean, diag exp(log_variance))."""
    return Normal(mean, (log_variance / 2).exp(), validate_args=False).log_prob(x).sum(1)


def chain(start, layers):
    """The joint Gaussian of a chain of affine ``Conditional``s from ``start``, in the chain's order."""
    mean, covariance = start.mean, start.covariance_matrix
    size = len(mean)
    for layer in layers:
        a, b = layer.affine.weight, layer.affine.bias
        cross = covariance[:, -size:] @ a.T
        own = a @ cross[-size:] + layer.log_variance.exp().diag()
        mean = torch.cat([mean, a @ mean[-size:] + b])
        covariance = torch.cat([torch.cat([covariance, cross], 1), torch.cat([cross.T, own], 1)])
        size = len(b)
    return mean, covariance


def trajectory_kl(model, data):
    """D_KL(P_B(τ) ‖ P_F(τ)), nats, of an affine model: P_B(τ) from ``data`` (a MultivariateNormal), P_F(τ) from
    N(0, I); both are Gaussians of (x_0, …, x_T) at once."""
    eye = torch.eye(model.sizes[-1], dtype=data.mean.dtype)
    backward = MultivariateNormal(*chain(data, model.up))
    mean, covariance = chain(MultivariateNormal(eye[0] * 0, eye), reversed(model.down))
    blocks = torch.arange(len(mean)).split(model.sizes[::-1])  # P_F's chain goes x_T … x_0
    order = torch.cat(blocks[::-1])
    return kl_divergence(backward, MultivariateNormal(mean[order], covariance[order][:, order]))


def expected_elbo(model, data):
    """E_{x ~ data} ELBO(x), nats, of an affine model: ``explain`` and ``score``, as in training.

    Exact: log w is a quadratic in the n standard normals behind x_0 … x_T, and the mean over the 2n points ±√n e_i
    has all moments of theirs up to the third.
    """
    n = sum(model.sizes)
    eye = math.sqrt(n) * torch.eye(n, dtype=data.mean.dtype)
    first, *noise = torch.cat([eye, -eye]).split(model.sizes, 1)
    x0 = data.mean + first @ data.scale_tril.T
    return score(model, model.explain(x0, torch.stack([model._pad(e) for e in noise]))).log_w.mean()


def value_deviation(model, data, rng, count=65536):
    """How many standard errors apart are D_KL(P_B(τ)‖P_F(τ)) from paths of *P_F*, E_{P_F}[r log r − r + 1] with
    r = p_data(x_0) P_B(τ|x_0) / P_F(τ), and −ELBO − H(data) from paths of P_B."""
    with torch.no_grad():
        forward = score(model, model.sample_pf((count, *model.shape), rng))
        log_r = data.log_prob(forward.states[0]) - forward.log_w
        x0 = draw(data, count, rng)
        backward = -score(model, model.sample_pb(x0, rng)).log_w - data.entropy()
    divergence = log_r.exp() * log_r - log_r.exp() + 1
    error = math.sqrt((divergence.var() + backward.var()) / count)
    return (divergence.mean() - backward.mean()).abs().item() / error


def gradient_deviation(model, data, rng, batches=64, count=512, siblings=4):
    """How many standard errors apart are, in the worst of P_B's parameters and with common noise, the gradients of

        KL-TB: (−log w(τ) − baseline) · ∇ log P_B(τ|x), states held fixed (the score function),
        −ELBO: −log P_F(τ) − Σ_t H(P_B(x_t|x_{t−1})), through the states (reparameterised).

    The baseline is the mean over the other ``siblings`` trajectories of the same x (Kool et al. 2019).
    """
    parameters, found = list(model.up.parameters()), []
    for _ in range(batches):
        states = model.sample_pb(draw(data, count, rng).repeat_interleave(siblings, 0), rng)
        fixed = score(model, states.detach())
        cost = -fixed.log_w.detach().view(count, siblings)
        advantage = (cost - cost.mean(1, keepdim=True)).flatten() * siblings / (siblings - 1)
        balance = gradient((advantage * fixed.log_pb.sum(0)).mean(), parameters)
        path = score(model, states)
        bound = path.log_prior + path.log_pf.sum(0) + entropies(model, states)
        found.append(balance - gradient(-bound.mean(), parameters))
    found = torch.stack(found)
    return (found.mean(0).abs() / found.std(0) * math.sqrt(batches)).max().item()


def draw(data, count, rng):
    """[count, D] of a MultivariateNormal, from a generator of our own."""
    noise = torch.randn(count, len(data.mean), generator=rng, dtype=data.mean.dtype)
    return data.mean + noise @ data.scale_tril.T


def entropies(model, states):
    """[N]: Σ_t H(P_B(x_t | x_{t−1})), nats."""
    spread = [layer(model._cut(x, t))[1] for t, (layer, x) in enumerate(zip(model.up, states))]
    return sum((each + math.log(2 * math.pi * math.e)).sum(1) / 2 for each in spread)


def gradient(value, parameters):
    """d value / d parameters, flat."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, retain_graph=True)])


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()
