"""What the stations on text share: encoders, the contrastive loss, guidance, DDIM, the sphere."""

import pytest
import torch
from helpers.gallery_text import CLIP, untrained_clip
from torch.nn import functional as F

from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.randomness import generator
from reproduction.gallery.text.captions import scenes
from reproduction.gallery.text.contrast import contrastive_loss, top_1
from reproduction.gallery.text.guidance import ddim, guided
from reproduction.gallery.text.sphere import slerp
from reproduction.gallery.text.words import Tokenizer

# --- encoders and contrast ------------------------------------------------------------------------------------------


def test_text_encoder_does_not_see_padding():
    """Neither more of it nor other tokens in its place; without the mask both change the embedding."""
    longer = CLIP.model_copy(update={"length": 12})
    clip = untrained_clip(settings=longer)
    said = [scene.caption for scene in scenes()[::40]]
    short, long = Tokenizer(8).encode(said), Tokenizer(12).encode(said)
    states, embedding = clip.text(*short)
    more, same = clip.text(*long)
    assert torch.allclose(embedding, same, atol=1e-5)
    assert torch.allclose(states[short[1]], more[:, :8][short[1]], atol=1e-5)
    other = long[0].clone()
    other[~long[1]] = 5
    assert torch.allclose(clip.text(other, long[1])[1], same, atol=1e-5)
    everything = torch.ones_like(long[1])
    assert not torch.allclose(clip.text(other, everything)[1], clip.text(long[0], everything)[1], atol=1e-3)


def test_embeddings_have_length_one():
    clip = untrained_clip()
    assert torch.allclose(clip.image_embedding(torch.randn(3, 1, 32, 32)).norm(dim=1), torch.ones(3))
    assert torch.allclose(
        clip.text_embedding(*Tokenizer(9).encode(["", "a two above a six"])).norm(dim=1), torch.ones(2)
    )


def test_contrastive_loss_is_the_mean_of_two_cross_entropies():
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = -(F.log_softmax(logits, 1).diagonal().mean())
    columns = -(F.log_softmax(logits, 0).diagonal().mean())
    assert torch.allclose(contrastive_loss(logits), (rows + columns) / 2)
    assert not torch.allclose(contrastive_loss(logits), rows)  # one direction alone is another loss
    assert torch.allclose(contrastive_loss(torch.zeros(7, 7)), torch.tensor(7.0).log())
    with pytest.raises(ValueError, match="as many images as captions"):
        contrastive_loss(torch.zeros(2, 3))


def test_retrieval_of_random_embeddings_is_at_chance():
    """4,000 queries among 40: 2.5 % with a standard error of 0.25 %; a helper that looks at the answer is far above."""
    a = F.normalize(torch.randn(40, 16, generator=generator(0, "a")), dim=1)
    b = F.normalize(torch.randn(4000, 16, generator=generator(0, "b")), dim=1)
    right = torch.arange(4000) % 40
    assert abs(top_1(b, a, right).float().mean() - 1 / 40) < 4 * 0.0025
    assert top_1(a, a, torch.arange(40)).all()
    with pytest.raises(ValueError, match="queries and candidates"):
        top_1(a, torch.zeros(3, 5), torch.arange(40))


# --- guidance, sampling, the sphere ---------------------------------------------------------------------------------


def test_guidance_extrapolates():
    told, untold = (lambda x, t: 3 * x), (lambda x, t: x)
    x = torch.tensor([1.0, -2.0])
    assert guided(told, untold, 0.0) is told and guided(told, untold, -1.0) is untold
    # Interpolation, w ε_c + (1 − w) ε_u, would give 5x.
    assert torch.equal(guided(told, untold, 2.0)(x, None), 7 * x)
    assert torch.equal(guided(told, untold, -0.5)(x, None), 2 * x)


@pytest.mark.parametrize("weight", [-1.5, float("nan"), float("inf")])
def test_guidance_that_makes_no_sense_is_refused(weight):
    with pytest.raises(ValueError, match="finite and at least −1"):
        guided(None, None, weight)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_ddim_with_the_exact_network_returns_the_data(prediction):
    """For data that are one point, the best ε and x_0 are known: any number of steps must end in that point. With times
    that are one off it does not."""
    process, point = GaussianDiffusion(betas(100)), torch.tensor([[0.3, -0.8]])

    def predict(x, time):
        if prediction == "sample":
            return point.expand_as(x)
        eps = process.noise_of(point.expand_as(x), x, time + 1)
        if prediction == "epsilon":
            return eps
        return (
            process.table("sqrt_alpha_bar", time + 1, x) * eps
            - process.table("noise_std", time + 1, x) * point
        )

    x = ddim(predict, torch.randn(5, 2, generator=generator(0)), process, 10, prediction)
    assert torch.allclose(x, point.expand(5, 2), atol=1e-3)


def test_ddim_keeps_a_gaussian_a_gaussian():
    """Data N(0, v): the probability flow scales noise by √v. A network's x̂_0 is not clipped where there is no bound."""
    process, v = GaussianDiffusion(betas(1000)), 4.0

    def predict(x, time):
        return (
            process.table("noise_std", time + 1, x)
            * x
            / (process.table("alpha_bar", time + 1, x) * v + process.table("noise_variance", time + 1, x))
        )

    noise = torch.randn(50, 1, generator=generator(0))
    result = ddim(predict, noise, process, 500, bound=None)
    assert torch.allclose(result, v**0.5 * noise, rtol=0.02, atol=1e-3)
    assert ddim(predict, noise, process, 500, bound=1.0).abs().max() <= 1


def test_ddim_steps_must_divide():
    with pytest.raises(ValueError, match="must divide T = 100"):
        ddim(None, torch.zeros(1), GaussianDiffusion(betas(100)), 33)


def test_slerp_has_the_right_ends_length_and_angles():
    a, b = F.normalize(torch.randn(2, 5, 8, generator=generator(0)), dim=-1)
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-6) and torch.allclose(slerp(a, b, 1.0), b, atol=1e-6)
    angle = (a * b).sum(-1).acos()
    for fraction in (0.1, 0.25, 0.9):
        result = slerp(a, b, fraction)
        assert torch.allclose(result.norm(dim=-1), torch.ones(5), atol=1e-6)
        # The chord, normalised, has other angles but in the middle.
        assert torch.allclose((result * a).sum(-1).acos(), fraction * angle, atol=1e-3)
    assert torch.allclose(slerp(a, a, 0.3), a, atol=1e-6)
    with pytest.raises(ValueError, match="length 1"):
        slerp(2 * a, b, 0.5)
    with pytest.raises(ValueError, match="opposite"):
        slerp(a, -a, 0.5)
