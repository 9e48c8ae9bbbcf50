"""Classifier-free guidance: its two ends, its closed form, and what it refuses."""

import pytest
import torch
from helpers.gallery_images import TINY, process

from mlegfn.errors import UserError
from reproduction.gallery.images.guided import Labelled, build_labelled
from reproduction.gallery.stations import guidance

N = 5


@pytest.fixture(scope="module")
def unet():
    """A labelled U-Net whose output depends on the label."""
    network = build_labelled(TINY["guidance"], (1, 8, 8), 10, 0).eval().requires_grad_(False)
    network.conv_out.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    for name, each in network.named_parameters():
        if name.endswith("conv2.weight"):
            each.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    return network


@pytest.fixture(scope="module")
def model(unet):
    return Labelled(lambda x, time, y: unet(x, time, class_labels=y, return_dict=False)[0], process(), 10)


@pytest.fixture
def state():
    draw = torch.Generator().manual_seed(1)
    return (
        torch.randn(N, 1, 8, 8, generator=draw),
        torch.tensor([1, 5, 10, 15, 20]),
        torch.tensor([0, 3, 9, 9, 4]),
    )


def test_the_ends_are_the_conditional_and_the_unconditional_model_bit_for_bit(model, unet, state):
    x, t, y = state
    conditional = unet(x, t - 1, class_labels=y, return_dict=False)[0]
    unconditional = unet(x, t - 1, class_labels=torch.full_like(y, 10), return_dict=False)[0]
    assert not torch.equal(conditional, unconditional)
    assert torch.equal(model.guided(x, t, y, 0.0), conditional)
    assert torch.equal(model.guided(x, t, y, -1.0), unconditional)


def test_guidance_extrapolates(model, state):
    """w = 1 lies beyond the conditional model, as far as the unconditional one lies behind it."""
    x, t, y = state
    conditional, behind, beyond = (model.guided(x, t, y, w) for w in (0.0, -1.0, 1.0))
    torch.testing.assert_close(beyond - conditional, conditional - behind)
    # The convex combination of the notes stays between the two.
    assert ((beyond - conditional) * (conditional - behind) >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": float("nan")}, "finite weight"),
        ({"w": float("inf")}, "finite weight"),
        ({"w": -1.5}, "w ≥ −1"),
        ({"t": torch.tensor([0, 1, 1, 1, 1])}, "times lie in 1…20, got 0…1"),
        ({"t": torch.tensor([1, 1, 1, 1, 21])}, "times lie in 1…20, got 1…21"),
        ({"labels": torch.tensor([0, 0, 0, 0, 10])}, "labels lie in 0…9, got 0…10"),
        ({"labels": torch.tensor([-1, 0, 0, 0, 0])}, "labels lie in 0…9, got -1…0"),
        ({"labels": torch.tensor([0, 1])}, r"one a state, \[5\], not torch.int64 \[2\]"),
        ({"t": torch.full((5,), 1.5)}, "times must be integers"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(model, state, change, message):
    x, t, y = state
    with pytest.raises(ValueError, match=message):
        model.guided(**{"x_t": x, "t": t, "labels": y, "w": 2.0, **change})


def gaussians(process, means):
    """The exact ``Labelled`` of x_0|y ~ N(m_y, s²), s = 0.3, two equally likely classes; and log p(x_t|y) at t."""
    variance = 0.09

    def log_p(x, t):
        """[N, 2]: log p(x_t|y), of x [N, 1]."""
        spread = process.alpha_bar[t] * variance + process.noise_variance[t]
        return -0.5 * (x - process.sqrt_alpha_bar[t] * means).square() / spread - 0.5 * spread.log()

    def network(x, time, labels):
        result = torch.empty_like(x)
        for row, (t, y) in enumerate(zip((time + 1).tolist(), labels.tolist(), strict=True)):
            at = x[row : row + 1].clone().requires_grad_(True)
            each = log_p(at, t)
            value = torch.logsumexp(each, 1) if y == 2 else each[:, y]
            (score,) = torch.autograd.grad(value.sum(), at)
            result[row] = -process.noise_std[t] * score[0]  # ε* = −√(1 − ᾱ_t) ∇ log p
        return result

    return Labelled(network, process, 2), log_p


@pytest.mark.parametrize("w", [-0.5, 0.5, 3.0])
def test_the_guided_score_is_that_of_the_class_plus_w_times_the_classifier(w):
    """On two Gaussians with exact ε: −ε/√(1 − ᾱ_t) = ∇ log p(x|y) + w ∇ log p(y|x), the classifier by Bayes' rule. The
    convex combination (1 − w) ε_u + w ε_c of the notes, and guidance that counts w from 1, fail."""
    chain = process()
    model, log_p = gaussians(chain, torch.tensor([[-0.5, 0.7]], dtype=torch.float64))
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    for t in (1, 8, 20):
        y, times = torch.ones(9, dtype=torch.long), torch.full((9,), t)
        score = -model.guided(x, times, y, w) / chain.noise_std[t]
        at = x.clone().requires_grad_(True)
        classifier = torch.log_softmax(log_p(at, t), 1)[:, 1]
        (of_classifier,) = torch.autograd.grad(classifier.sum(), at)
        at = x.clone().requires_grad_(True)
        (of_class,) = torch.autograd.grad(log_p(at, t)[:, 1].sum(), at)
        torch.testing.assert_close(score, of_class + w * of_classifier)
        convex = (1 - w) * model.guided(x, times, y, -1) + w * model.guided(x, times, y, 0)
        assert (model.guided(x, times, y, w) - convex).abs().max() > 1e-3


def test_guidance_moves_samples_away_from_the_other_class():
    """Samples of the exact two-Gaussian model: w = 0 has the class's mean and variance, w = 2 is further out, narrower."""
    from mlegfn.diffusion.process import GaussianDiffusion
    from mlegfn.diffusion.schedules import betas

    chain = GaussianDiffusion(betas(100, "linear", 0.001, 0.2))
    means = torch.tensor([[-0.3, 0.3]], dtype=torch.float64)

    def network(x, time, labels):
        """In closed form, all rows at one time: the responsibilities weigh the two means."""
        t = int(time[0]) + 1
        spread = chain.alpha_bar[t] * 0.09 + chain.noise_variance[t]
        centres = chain.sqrt_alpha_bar[t] * means
        weight = torch.softmax(-0.5 * (x.double() - centres).square() / spread, 1)
        own = (weight * centres).sum(1, keepdim=True) if labels[0] == 2 else centres[:, labels].T
        return (chain.noise_std[t] * (x.double() - own) / spread).to(x.dtype)

    model, labels = Labelled(network, chain, 2), torch.ones(4000, dtype=torch.long)
    plain, guided, free = (
        model.model(labels, w, 100)
        .sample_pf((4000, 1), torch.Generator().manual_seed(0), keep=[0])[0]
        .double()
        for w in (0.0, 2.0, -1.0)
    )
    assert plain.mean().item() == pytest.approx(0.3, abs=0.03)
    assert plain.std().item() == pytest.approx(0.3, abs=0.03)
    assert free.mean().abs() < 0.05  # both classes
    assert guided.mean() > plain.mean() + 0.1
    assert guided.std() < plain.std()


def test_a_hidden_label_is_the_null_label():
    """With p = 1 the network sees ∅ alone, with p = 0 the labels alone; the share in between is p."""
    seen = []
    model = Labelled(lambda x, time, y: seen.append(y) or torch.zeros_like(x), process(), 10)
    data, labels = torch.zeros(40, 1, 8, 8), torch.arange(40) % 10
    for dropout in (0.0, 0.3):
        seen.clear()
        settings = TINY["guidance"].model_copy(update={"label_dropout": dropout, "batch": 500})
        loss = guidance.training(model, data, labels, settings)
        assert loss(0).item() == pytest.approx(1, abs=0.05)
        assert (seen[0] == 10).double().mean().item() == pytest.approx(dropout, abs=0.07)
        assert set(seen[0].tolist()) - {10} == set(range(10))


def test_the_labelled_network_starts_as_a_function_of_its_seed():
    first, again, other = (
        build_labelled(TINY["guidance"], (1, 8, 8), 10, seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["class_embedding.weight"].shape[0] == 11
    assert not torch.equal(first["class_embedding.weight"], other["class_embedding.weight"])


def test_random_images_of_each_class_are_in_the_order_of_the_labels():
    """The digits come writer by writer: the first of each class, in place of random ones, are few writers'."""
    labels, images = torch.arange(200) % 2, torch.arange(200.0)
    draws = [
        guidance.of_each_class(images, labels, 2, 20, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert (draws[0] % 2).tolist() == [0] * 20 + [1] * 20
    assert len(draws[0].unique()) == 40
    assert draws[0].max() > 150
    with pytest.raises(UserError, match="101 images of each class are compared, but class 0 has 100"):
        guidance.of_each_class(images, labels, 2, 101, torch.Generator())
