"""What the stations on text share: words, scenes, encoders, contrast, guidance, the sphere, the judges."""

import pytest
import torch
from gallery_text import CLIP, untrained_clip
from torch.nn import functional as F

from mlegfn.data import digits
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.gallery._text import captions
from mlegfn.gallery._text.captions import DIGITS, PLACES, SIZES, held_out, scenes
from mlegfn.gallery._text.contrast import contrastive_loss, top_1
from mlegfn.gallery._text.guidance import ddim, guided
from mlegfn.gallery._text.painting import Painter, painters, reduce
from mlegfn.gallery._text.seeing import Seer, features
from mlegfn.gallery._text.sphere import slerp
from mlegfn.gallery._text.words import PADDING, START, Tokenizer
from mlegfn.randomness import generator


@pytest.fixture(scope="module")
def split():
    return painters(digits.load())


def row_of(caption):
    return next(row for row, scene in enumerate(scenes()) if scene.caption == caption)


# --- captions and words ---------------------------------------------------------------------------------------------


def test_captions_differ_and_are_english():
    said = [scene.caption for scene in scenes()]
    assert len(said) == len(set(said)) == 10 * len(SIZES) * len(PLACES) * 2 + 10 * 10 * 2
    assert "an eight left of a two" in said and not any(" a eight" in f" {each}" for each in said)


@pytest.mark.parametrize("fraction", [0.0, 0.15])
def test_held_out_captions_have_known_words_and_a_fixed_share(fraction):
    out = held_out(fraction, 0)
    single = torch.tensor([len(scene.digits) == 1 for scene in scenes()])
    assert int(out[single].sum()) == round(fraction * 160) and int(out[~single].sum()) == round(
        fraction * 200
    )
    assert torch.equal(out, held_out(fraction, 0))
    known = {word for scene, new in zip(scenes(), out) if not new for word in scene.caption.split()}
    assert {word for scene in scenes() for word in scene.caption.split()} == known


def test_words_there_and_back_with_padding_and_mask():
    tokenizer = Tokenizer(9)
    tokens, mask = tokenizer.encode([scene.caption for scene in scenes()])
    assert [tokenizer.decode(row) for row in tokens] == [scene.caption for scene in scenes()]
    assert (tokens[:, 0] == START).all() and torch.equal(mask, tokens != PADDING)
    assert mask.sum(1).tolist() == [1 + len(scene.caption.split()) for scene in scenes()]
    longer, _ = Tokenizer(12).encode(["A  Large two at the top"])  # spaces and capitals say nothing
    assert torch.equal(longer[0, :9], tokenizer.encode(["a large two at the top"])[0][0])


def test_a_caption_without_words_is_a_start_alone():
    tokens, mask = Tokenizer(9).encode([""])
    assert tokens.tolist() == [[START] + [PADDING] * 8] and mask.sum() == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["a small sevn on the left"], "unknown word 'sevn'; the nearest known ones are seven"),
        (["a purple two"], "unknown word 'purple'; the nearest"),
        (["a " * 9], "has 9 words, there is room for 8"),
        ([], "at least one caption"),
        ("a small two", "expected a list"),
        ([3], "a caption is text, not 3"),
    ],
)
def test_words_that_cannot_be_read_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        Tokenizer(9).encode(given)


# --- scenes ---------------------------------------------------------------------------------------------------------


def test_scenes_show_what_captions_say(split):
    """By ink alone, without any classifier: axes that are swapped, or a dark scene that is not inverted, fail."""
    _, test = split
    rows = torch.arange(len(scenes()))
    scene = test.draw(rows, generator(0, "test"))
    assert scene.shape == (360, 1, 32, 32) and scene.min() >= -1 and scene.max() <= 1
    _, y, _, x, _ = features(scene)[:, :5].T
    total = features(scene)[:, 0]
    said = scenes()
    for place, (axis, sign) in enumerate(((x, -1), (x, 1), (y, -1), (y, 1))):
        of = torch.tensor([each.place == place for each in said])
        assert (sign * (axis[of] - 16) > 0).float().mean() > 0.97
    small, large = (torch.tensor([each.size == size for each in said]) for size in (0, 1))
    assert total[large].min() > total[small].mean()
    dark = torch.tensor([each.dark for each in said])
    assert ((scene.mean((1, 2, 3)) > 0) == dark).all()


def test_two_digits_stand_as_said(split):
    """A two left of a five is a five left of a two, mirrored: the order of the digits must not be lost."""
    train, _ = split
    rows = torch.tensor([row_of("a one left of a zero"), row_of("a zero left of a one")]).repeat_interleave(
        50
    )
    ink = (train.draw(rows, generator(0, "test")) + 1) / 2
    left, right = ink[..., :16].sum((1, 2, 3)), ink[..., 16:].sum((1, 2, 3))
    middle = ink[..., 6:10].sum((1, 2, 3))  # a one has ink where a zero has its hole
    assert middle[:50].mean() > 1.2 * middle[50:].mean() and left.min() > 0 and right.min() > 0


def test_scenes_use_only_their_own_digits_and_are_functions_of_the_draw(split):
    train, test = split
    rows = torch.arange(0, 360, 7)
    again = train.draw(rows, generator(0, "a"))
    assert torch.equal(again, train.draw(rows, generator(0, "a")))
    assert not torch.equal(again, train.draw(rows, generator(1, "a")))
    assert len(train.images) + len(test.images) == 1797
    found = digits.load()
    one_of_each = torch.stack([(found.train_labels == label).nonzero()[0, 0] for label in range(10)])
    only = Painter(found.train_images[one_of_each], torch.arange(10), found.levels)
    assert only.draw(torch.tensor([row_of("a small seven on the left")]), generator(0)).max() > 0


def test_reduced_scenes_are_means():
    assert reduce(torch.ones(1, 1, 32, 32)).shape == (1, 1, 8, 8)
    scene = torch.zeros(1, 1, 32, 32)
    scene[0, 0, 3, 31] = 16
    assert reduce(scene)[0, 0, 0, 7] == 1 and reduce(scene).sum() == 1


@pytest.mark.parametrize(
    ("shape", "labels"), [((20, 3, 8, 8), torch.arange(20) % 10), ((20, 1, 8, 8), torch.arange(20) % 9)]
)
def test_painters_refuse_colours_and_missing_classes(shape, labels):
    with pytest.raises(ValueError, match="scenes"):
        Painter(torch.zeros(shape, dtype=torch.uint8), labels, 17)


def test_judges_read_real_scenes_and_are_not_fooled_by_other_captions(split):
    train, test = split
    rows = torch.arange(360).repeat(4)
    seer = Seer(train.draw(rows, generator(0, "fit")), rows)
    rows = torch.arange(360)
    scene = test.draw(rows, generator(0, "test"))
    right = {name: values.float().mean().item() for name, values in seer.right(scene, rows).items()}
    assert right["all"] > 0.85 and min(right["place"], right["size"], right["relation"], right["dark"]) > 0.95
    other = torch.randperm(360, generator=generator(0, "other"))
    wrong = {name: values.float().mean().item() for name, values in seer.right(scene, other).items()}
    assert wrong["all"] < 0.03 and wrong["place"] < 0.45 and wrong["digits"] < 0.2
    assert seer.right(-torch.ones(2, 1, 32, 32), torch.tensor([0, 300]))["all"].shape == (2,)  # no ink at all


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


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_ddim_with_the_exact_network_returns_the_data(prediction):
    """For data that are one point, the best ε and x_0 are known: any number of steps must end in that point. With times
    that are one off it does not."""
    process, point = GaussianDiffusion(betas(100)), torch.tensor([[0.3, -0.8]])

    def predict(x, time):
        if prediction == "sample":
            return point.expand_as(x)
        return process.noise_of(point.expand_as(x), x, time + 1)

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
    found = ddim(predict, noise, process, 500, bound=None)
    assert torch.allclose(found, v**0.5 * noise, rtol=0.02, atol=1e-3)
    assert ddim(predict, noise, process, 500, bound=1.0).abs().max() <= 1


def test_ddim_steps_must_divide():
    with pytest.raises(ValueError, match="must divide T = 100"):
        ddim(None, torch.zeros(1), GaussianDiffusion(betas(100)), 33)


def test_slerp_has_the_right_ends_length_and_angles():
    a, b = F.normalize(torch.randn(2, 5, 8, generator=generator(0)), dim=-1)
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-6) and torch.allclose(slerp(a, b, 1.0), b, atol=1e-6)
    angle = (a * b).sum(-1).acos()
    for fraction in (0.1, 0.25, 0.9):
        found = slerp(a, b, fraction)
        assert torch.allclose(found.norm(dim=-1), torch.ones(5), atol=1e-6)
        # The chord, normalised, has other angles but in the middle.
        assert torch.allclose((found * a).sum(-1).acos(), fraction * angle, atol=1e-3)
    assert torch.allclose(slerp(a, a, 0.3), a, atol=1e-6)
    with pytest.raises(ValueError, match="length 1"):
        slerp(2 * a, b, 0.5)
    with pytest.raises(ValueError, match="opposite"):
        slerp(a, -a, 0.5)


def test_vocabulary_is_what_captions_use():
    assert len(Tokenizer(9)) == 2 + len({word for scene in scenes() for word in scene.caption.split()})
    assert set(DIGITS) <= set(Tokenizer(9).words) and captions.article(8) == "an"
