"""The station clip, and the settings of the stations on text."""

import pytest
import torch
from helpers.gallery_text import CASCADE, CLIP, PRIOR, TinyInputs, drawn, untrained_clip

from mlegfn.data import digits
from mlegfn.errors import UserError
from mlegfn.randomness import generator
from reproduction.gallery.settings import text
from reproduction.gallery.stations import clip
from reproduction.gallery.text.painting import painters
from reproduction.gallery.text.reading import captions, frozen
from reproduction.settings.validation import validate


def small(**more):
    return CLIP.model_copy(
        update={"steps": 120, "batch": 64, "channels": [8, 16, 16], "rounds": 2, "embedding": 32, **more}
    )


def test_contrast_learns_pairs_and_nothing_from_shuffled_captions():
    """Some steps suffice for many times chance. Trained with the captions of other scenes it must stay near chance: if
    it did not, the pairs would have leaked by another way."""
    train, test = painters(digits.load())
    result = captions(CLIP)
    scene = [test.draw(torch.arange(360), generator(0, k)) for k in range(2)]
    optimizer = CLIP.optimizer.model_copy(update={"lr": 0.004})
    settings = small(optimizer=optimizer)
    pairs = clip.measure(clip.trained(settings, result, train, 0), result, scene, settings, 0)
    none = clip.measure(clip.trained(settings, result, train, 0, shuffled=True), result, scene, settings, 0)
    assert pairs["caption_of_scene"] > 0.04 and pairs["shuffled"] < 0.02
    assert max(none["caption_of_scene"], none["scene_of_caption"]) < 0.02


def test_clip_from_settings_to_figure_twice_the_same():
    first, second = (clip.Clip.run(CLIP, TinyInputs()) for _ in range(2))
    assert all(len(first.quantities[name].values) == 3 for name in first.quantities)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert {name: each.values for name, each in first.quantities.items()} == {
        name: each.values for name, each in second.quantities.items()
    }
    drawn("clip", first, CLIP)


def test_other_weights_than_clips_are_refused():
    inputs = TinyInputs()
    inputs.made["clip"] = {"clip.text.position": torch.zeros(3, 3)}
    with pytest.raises(ValueError, match="another network"):
        frozen(inputs)
    assert frozen(TinyInputs()).states.shape == (361, 9, 16) and len(untrained_clip().text.position) == 9


@pytest.mark.parametrize(
    ("block", "key", "value", "sentence"),
    [
        (CLIP, "length", 7, "length: must be at least 8"),
        (CLIP, "heads", 3, "heads: must divide width, 16"),
        (CLIP, "channels", [6], "divisible by 4"),
        (CLIP, "seeds", [1, 1], "seeds: names something twice"),
        (CASCADE, "guidance", [1.0, 2.0], "guidance: must start with 0.0"),
        (CASCADE, "guidance", [0.0, -2.0], r"guidance\[1\]: expected a number ≥ -1"),
        (CASCADE, "levels", [0, 5], "levels: must start with 0, differ, and be at most augmentation, 4"),
        (CASCADE, "level", 3, "level: must be one of levels"),
        (CASCADE, "upsampling_steps", 3, "upsampling_steps: must divide timesteps, 20"),
        (PRIOR, "guidance_prior", float("inf"), "guidance_prior: expected a number ≥ -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(block, key, value, sentence):
    with pytest.raises(UserError, match=sentence):
        validate(type(block), {**block.model_dump(mode="python"), key: value}, "params.yaml")
    assert validate(type(block), block.model_dump(mode="python"), "params.yaml") == block


def test_nested_settings_are_checked_too():
    raw = PRIOR.model_dump()
    raw["transformer"]["heads"], raw["noising"]["steps"] = 3, 7
    with pytest.raises(UserError) as error:
        validate(text.Prior, raw, "params.yaml")
    assert "transformer.heads: must divide width, 16" in str(error.value)
    assert "noising.steps: must divide timesteps, 20" in str(error.value)
