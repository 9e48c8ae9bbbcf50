"""log w, the bounds and bits/dim: exact where the model is, brute force where it is small."""

import math

import numpy as np
import pytest
import torch
from helpers.exact import TinyNetwork, exact_gaussian, gaussian_log_prob, linear_process
from scipy.special import log_ndtr

from mlegfn.diffusion.likelihood import bits_per_dim, image_noise, prior_term
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.randomness import generator
from mlegfn.trajectory import Trajectory, score

S2 = 0.3  # the variance of the Gaussian data


def data(count, *shape, key="x0"):
    return S2**0.5 * torch.randn(count, *shape, generator=generator(0, key), dtype=torch.float64)


def joint_log_w(model, x0, trajectories, key="joint"):
    """[B, M] log w over M joint trajectories of each x0."""
    states = model.sample_pb(x0.repeat_interleave(trajectories, 0), generator(0, key))
    return score(model, states).log_w.view(len(x0), trajectories)


def independent_log_w(model, x0, trajectories):
    """[B, M]: the tempting shortcut, x_t drawn anew for each t. Each pair (x_{t−1}, x_t) has its right law, so the
    mean of log w is right; the pairs do not hang together."""
    x = x0.repeat_interleave(trajectories, 0)
    draw = generator(0, "independent")

    def normal():
        return torch.randn(x.shape, generator=draw, dtype=x.dtype)

    total = torch.zeros(len(x), dtype=x.dtype)
    for step in range(1, model.timesteps + 1):
        x_prev = model.process.noise(x, step - 1, normal())
        x_t = model.process.alpha[step].sqrt() * x_prev + model.process.beta[step].sqrt() * normal()
        t = torch.full((len(x),), step)
        total += model.log_pf(x_prev, x_t, t) - model.log_pb(x_prev, x_t, t)
        if step == model.timesteps:
            total += model.log_prior(x_t)
    return total.view(len(x0), trajectories)


# ---------------------------------------------------------------- the exact 1-D Gaussian


@pytest.mark.parametrize("timesteps", [50, 1000])
def test_a_perfect_model_has_the_same_log_w_on_every_joint_trajectory(timesteps):
    """Var(log w) ≤ 1e-6 is the issue's number. What is left is x_T's law, N(0, 1 − ᾱ_T(1 − s²)) and not N(0, 1):
    Var ≈ (ᾱ_T (1 − s²))²/2 ≈ 1e-9 at both T."""
    model, x0 = exact_gaussian(linear_process(timesteps), S2), data(20, 1)
    log_w = joint_log_w(model, x0, 20)
    assert log_w.var(1).max() <= 1e-6
    # ... and it is log p(x): the same ᾱ_T bounds the difference.
    difference = log_w - gaussian_log_prob(x0, S2)
    assert difference.abs().max() < 20 * model.process.alpha_bar[-1]


@pytest.mark.parametrize("timesteps", [50, 1000])
def test_the_independent_timestep_shortcut_fails_that_check(timesteps):
    """Right mean, a variance that is 10⁶ times too large, or more: the test above can see the difference."""
    model, x0 = exact_gaussian(linear_process(timesteps), S2), data(20, 1)
    log_w = independent_log_w(model, x0, 200)
    assert log_w.var(1).min() > 1.0
    mean, se = log_w.mean(1), log_w.std(1) / 200**0.5
    # 20 comparisons at 5 standard errors.
    assert ((mean - gaussian_log_prob(x0, S2)[:, 0]).abs() / se).max() < 5


def test_float32_joint_trajectories_are_nearly_as_good():
    """1000 float32 terms of size 1 to 10: rounding leaves a std of a few 1e-3 nats, not of nats."""
    model, x0 = exact_gaussian(linear_process(1000), S2), data(20, 1).float()
    assert joint_log_w(model, x0, 20).std(1).max() < 0.02


def test_importance_weighted_bound_tends_to_the_log_likelihood():
    """An imperfect model: q's ε for data of another variance. log p(x) of a linear-Gaussian model is exact too:
    x_0's law under the model is a Gaussian whose variance follows from the recursion."""
    process = linear_process(8)
    right = exact_gaussian(process, S2)
    wrong = DenoisingModel(lambda x, time: 0.8 * right.network(x, time), process, right.log_variance)
    # x_{t−1} = a_t x_t + σ_t ε with a_t from the linear network, x_T ~ N(0, 1)
    variance = torch.ones((), dtype=torch.float64)
    for step in range(8, 0, -1):
        one = torch.ones(1, 1, dtype=torch.float64)
        t = torch.tensor([step])
        gain = process.reverse_mean(one, t, wrong.network(one, t - 1)).squeeze()
        variance = gain**2 * variance + right.log_variance[step].exp()
    x0 = data(16, 1)
    truth = gaussian_log_prob(x0, variance.item())[:, 0]

    log_w = joint_log_w(wrong, x0, 1600)
    bounds = [importance_weighted(log_w.view(16, -1, m).flatten(0, 1)).view(16, -1) for m in (1, 4, 16)]
    means = torch.stack([elbo(log_w), *(b.mean(1) for b in bounds), importance_weighted(log_w)])
    torch.testing.assert_close(means[0], means[1])  # M = 1 is the ELBO
    assert (importance_weighted(log_w) >= elbo(log_w)).all()
    assert (means.mean(1).diff()[1:] > 0).all()  # tighter with M
    # Delta method: log mean w has standard error std(w)/(mean w √M). 16 comparisons at 5 of them.
    w = (log_w - truth[:, None]).exp()
    se = w.std(1) / w.mean(1) / 1600**0.5
    assert ((means[-1] - truth).abs() / se).max() < 5
    assert (truth - means[0]).min() > 0.01  # the model is wrong enough for the bound to have a gap


# ---------------------------------------------------------------- ELBO, two ways


@pytest.mark.parametrize("levels", [17, None])
@pytest.mark.parametrize("variance", ["small", "learned"])
def test_bound_terms_sum_to_the_mean_of_log_w(levels, variance):
    """−ELBO = L_T + Σ_t L_{t−1} + L_0 (closed-form KLs at independent x_t) = −E[log w] over joint trajectories.
    Both sides are means over draws; they agree within 5 joint standard errors, which are ~1 % of the bound."""
    process = linear_process(6)
    outputs = 2 if variance == "learned" else 1
    table = None if variance == "learned" else fixed_log_variance(process, "small")
    model = DenoisingModel(TinyNetwork(outputs=outputs).requires_grad_(False), process, table, levels)
    x0 = (torch.randint(0, 17, (1, 1, 2, 2), generator=generator(0, "pixels")).double() / 8 - 1).repeat(
        4000, 1, 1, 1
    )
    from_terms = bits_per_dim(model, x0, seed=0, batch=4096).per_image * x0[0].numel() * math.log(2)
    log_w = score(model, model.sample_pb(x0, generator(0, "elbo"))).log_w
    se = (from_terms.var() / 4000 + log_w.var() / 4000) ** 0.5
    assert (from_terms.mean() + log_w.mean()).abs() < 5 * se
    assert se < 0.02 * log_w.mean().abs()


def gauss_hermite(count=80):
    """Nodes and weights for E over N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


class Brute:
    """A 1-D model with T = 2 and five levels, in plain numpy, with nothing of ours in it."""

    beta = (0.3, 0.6)
    variances = (0.1, 0.25)  # σ_1², σ_2²
    levels = 5

    @staticmethod
    def eps(x, time):
        return np.tanh(0.9 * x - 0.2) + 0.1 * time

    def mean(self, x_t, t):
        beta, bar = self.beta[t - 1], np.prod([1 - b for b in self.beta[:t]])
        return (x_t - beta / np.sqrt(1 - bar) * self.eps(x_t, t - 1)) / np.sqrt(1 - beta)

    def log_decoder(self, x0, x1):
        half, std, mean = 1 / (self.levels - 1), math.sqrt(self.variances[0]), self.mean(x1, 1)
        low, high = (x0 - half - mean) / std, (x0 + half - mean) / std
        if x0 < -1 + half:
            return log_ndtr(high)
        if x0 > 1 - half:
            return log_ndtr(-low)
        # From the nearer tail, where the difference keeps its digits.
        low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
        return log_ndtr(high) + np.log1p(-np.exp(log_ndtr(low) - log_ndtr(high)))

    @staticmethod
    def log_normal(x, mean, variance):
        return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))

    def log_w(self, x0, x1, x2):
        b1, b2 = self.beta
        return (
            self.log_normal(x2, 0, 1)
            + self.log_normal(x1, self.mean(x2, 2), self.variances[1])
            + self.log_decoder(x0, x1)
            - self.log_normal(x1, math.sqrt(1 - b1) * x0, b1)
            - self.log_normal(x2, np.sqrt(1 - b2) * x1, b2)
        )

    def elbo(self, x0):
        """E_q[log w] as a double sum over q(x_1|x_0) q(x_2|x_1)."""
        z, w = gauss_hermite()
        x1 = math.sqrt(1 - self.beta[0]) * x0 + math.sqrt(self.beta[0]) * z[:, None]
        x2 = math.sqrt(1 - self.beta[1]) * x1 + math.sqrt(self.beta[1]) * z[None, :]
        return float((w[:, None] * w[None, :] * self.log_w(x0, x1, x2)).sum())

    def log_likelihood(self, x0):
        """log P(x_0), by summing over fine grids of x_1 and x_2."""
        x1, x2 = np.linspace(-14, 14, 1401)[:, None], np.linspace(-7, 7, 701)[None, :]
        density = np.exp(self.log_normal(x2, 0, 1) + self.log_normal(x1, self.mean(x2, 2), self.variances[1]))
        return math.log((density * np.exp(self.log_decoder(x0, x1))).sum() * 0.02**2)

    def ours(self):
        """The same model as a ``DenoisingModel``."""
        table = torch.tensor([1.0, *self.variances], dtype=torch.float64).log()

        def network(x, time):
            return torch.tanh(0.9 * x - 0.2) + 0.1 * time.view(-1, *[1] * (x.ndim - 1))

        return DenoisingModel(network, GaussianDiffusion(self.beta), table, self.levels)


@pytest.mark.parametrize("x0", [-1.0, -0.5, 0.0, 1.0])
def test_bound_terms_against_brute_force(x0):
    """L_T + L_1 + L_0, each integrated over its own x_t, is the double integral of −log w."""
    brute, model = Brute(), Brute().ours()
    z, w = gauss_hermite()
    image = torch.full((len(z), 1), x0, dtype=torch.float64)
    total = prior_term(model.process, image)[0].item()
    for step in (1, 2):
        t = torch.full((len(z),), step)
        x_t = model.process.noise(image, t, torch.tensor(z)[:, None])
        total += float((model.bound_terms(image, x_t, t).numpy() * w).sum())
    assert -total == pytest.approx(brute.elbo(x0), abs=1e-7)
    assert -total < brute.log_likelihood(x0)


def test_bits_per_dim_against_brute_force():
    """bits_per_dim draws one x_t for each t; its mean over many copies is the brute-force bound, within 5 se."""
    brute, model, count = Brute(), Brute().ours(), 4000
    for x0 in (-0.5, 1.0):
        measured = bits_per_dim(model, torch.full((count, 1), x0, dtype=torch.float64), batch=4096)
        want = -brute.elbo(x0) / math.log(2)
        assert abs(measured.per_image.mean() - want) < 5 * measured.per_image.std() / count**0.5
        assert measured.per_image.std() / count**0.5 < 0.05 * want


def test_importance_weighting_against_brute_force():
    brute, model = Brute(), Brute().ours()
    levels = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    log_w = joint_log_w(model, levels, 20000)
    w = log_w.exp()
    truth = torch.tensor([brute.log_likelihood(x) for x in levels[:, 0].tolist()])
    assert truth.exp().sum().item() == pytest.approx(1, abs=1e-6)  # the model is a law over the levels
    se = w.std(1) / w.mean(1) / 20000**0.5
    assert ((importance_weighted(log_w) - truth).abs() / se).max() < 5


def test_our_log_w_is_the_brute_force_one():
    brute, model = Brute(), Brute().ours()
    states = torch.tensor([[-0.5, 1.0], [0.3, 0.4], [1.2, -2.0]], dtype=torch.float64)[:, :, None]
    want = [brute.log_w(*states[:, i, 0].numpy()) for i in range(2)]
    torch.testing.assert_close(score(model, states).log_w, torch.tensor(want, dtype=torch.float64))


# ---------------------------------------------------------------- bits_per_dim's book-keeping


def pixel_model(timesteps=6, levels=17):
    """Elementwise ε_θ: its float results do not depend on how states are batched."""
    process = linear_process(timesteps)

    def network(x, time):
        return 0.7 * torch.tanh(x) + 0.01 * time.view(-1, *[1] * (x.ndim - 1))

    return DenoisingModel(network, process, fixed_log_variance(process, "small"), levels)


IMAGES = torch.randint(0, 17, (7, 1, 2, 2), generator=generator(0, "images")) / 8 - 1


@pytest.mark.parametrize("batch", [1, 5, 6, 13, 512])
def test_bits_per_dim_does_not_depend_on_the_batch(batch):
    want = bits_per_dim(pixel_model(), IMAGES, batch=100)
    got = bits_per_dim(pixel_model(), IMAGES, batch=batch)
    assert torch.equal(got.per_image, want.per_image) and torch.equal(got.terms, want.terms)
    assert torch.equal(got.per_image_clipped, want.per_image_clipped)


def test_bits_per_dim_does_not_depend_on_the_other_images():
    want = bits_per_dim(pixel_model(), IMAGES).per_image
    torch.testing.assert_close(
        bits_per_dim(pixel_model(), IMAGES[2:5], first_index=2).per_image, want[2:5], rtol=0, atol=0
    )
    assert not torch.equal(bits_per_dim(pixel_model(), IMAGES[2:5]).per_image, want[2:5])
    assert not torch.equal(bits_per_dim(pixel_model(), IMAGES, seed=1).per_image, want)


def test_noise_is_a_function_of_seed_image_and_time():
    whole = image_noise(IMAGES, range(7), 6, (0, "nll"))
    assert torch.equal(image_noise(IMAGES[:2], [4, 1], 6, (0, "nll")), whole[:, [4, 1]])
    assert len(whole.flatten().unique()) == whole.numel()  # nothing is used twice


def test_each_image_gets_its_own_terms():
    """Against one image and one time at a time, in order, with the noise that the function names."""
    model, measured = pixel_model(), bits_per_dim(pixel_model(), IMAGES, batch=11)
    noise = image_noise(IMAGES, range(7), 6, (0, "nll"))
    table, clipped = torch.empty(2, 7, 7, dtype=torch.float64)
    table[6] = clipped[6] = prior_term(model.process, IMAGES)
    for i in range(7):
        for step in range(1, 7):
            image, t = IMAGES[i : i + 1], torch.tensor([step])
            x_t = model.process.noise(image, t, noise[step - 1, i : i + 1])
            table[step - 1, i] = model.bound_terms(image, x_t, t).item()
            clipped[step - 1, i] = model.bound_terms(image, x_t, t, clip=True).item()
    bits = 4 * math.log(2)
    torch.testing.assert_close(measured.per_image, table.sum(0) / bits, rtol=1e-6, atol=0)
    torch.testing.assert_close(measured.per_image_clipped, clipped.sum(0) / bits, rtol=1e-6, atol=0)
    torch.testing.assert_close(measured.terms, table.mean(1) / bits, rtol=1e-6, atol=1e-9)
    assert measured.evaluations == 6


def test_terms_sum_to_the_mean_over_images():
    measured = bits_per_dim(pixel_model(), IMAGES)
    assert measured.terms.sum().item() == pytest.approx(measured.per_image.mean().item(), rel=1e-12)


def test_clipping_clips_the_predicted_x0():
    """clip=True is the bound of the model whose ε is the one of the clipped x̂_0."""
    model = pixel_model()

    def clipped_network(x, time):
        t = time + 1
        x0 = model.process.predict_x0(x, t, model.network(x, time)).clamp(-1, 1)
        return model.process.noise_of(x0, x, t)

    clipped = DenoisingModel(clipped_network, model.process, model.log_variance, 17)
    measured, images = bits_per_dim(model, IMAGES.double()), IMAGES.double()
    torch.testing.assert_close(measured.per_image_clipped, bits_per_dim(clipped, images).per_image)
    assert not torch.allclose(measured.per_image_clipped, measured.per_image)


def test_prior_term_is_the_kl():
    process = linear_process(6)
    x0 = data(3, 2, 2)
    mean, variance = process.marginal(x0, 6)
    q = torch.distributions.Normal(mean, variance.sqrt())
    p = torch.distributions.Normal(torch.zeros_like(mean), 1.0)
    want = torch.distributions.kl_divergence(q, p).sum((1, 2))
    torch.testing.assert_close(prior_term(process, x0), want)


# ---------------------------------------------------------------- misuse


LOG_W = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: elbo(LOG_W[0]),
        lambda: elbo(LOG_W[:, :0]),
        lambda: elbo(LOG_W / 0),
        lambda: importance_weighted(LOG_W[None]),
        lambda: importance_weighted(LOG_W - math.inf),
        lambda: bits_per_dim(pixel_model(), IMAGES / 0),
        lambda: bits_per_dim(pixel_model(), IMAGES[:0]),
        lambda: bits_per_dim(pixel_model(), IMAGES, batch=0),
        lambda: bits_per_dim(pixel_model(), IMAGES + 0.01),
        lambda: score(pixel_model(), torch.zeros(6, 2, 1)),
        lambda: score(pixel_model(), torch.full((7, 2, 1), math.nan)),
        lambda: Trajectory(torch.zeros(7, 2, 1), torch.zeros(2), torch.zeros(6, 2), torch.zeros(6, 3)),
    ],
)
def test_misuse_is_a_value_error_with_a_sentence(misuse):
    with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
        misuse()
