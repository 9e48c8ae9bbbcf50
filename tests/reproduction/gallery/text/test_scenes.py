"""Captions, words and scenes that the stations on text share, and the judges of what a scene shows."""

import pytest
import torch

from mlegfn.data import digits
from mlegfn.randomness import generator
from reproduction.gallery.text.captions import DIGITS, PLACES, SIZES, article, held_out, scenes
from reproduction.gallery.text.painting import Painter, painters, reduce
from reproduction.gallery.text.seeing import Seer, features
from reproduction.gallery.text.words import PADDING, START, Tokenizer


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
    result = digits.load()
    one_of_each = torch.stack([(result.train_labels == label).nonzero()[0, 0] for label in range(10)])
    only = Painter(result.train_images[one_of_each], torch.arange(10), result.levels)
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


def test_vocabulary_is_what_captions_use():
    assert len(Tokenizer(9)) == 2 + len({word for scene in scenes() for word in scene.caption.split()})
    assert set(DIGITS) <= set(Tokenizer(9).words) and article(8) == "an"
