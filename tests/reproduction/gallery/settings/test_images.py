"""Settings of the stations on images: each mistake is a sentence that names its key."""

import pytest
from helpers.gallery_images import TINY

from mlegfn.errors import UserError
from reproduction.gallery.settings import Gallery
from reproduction.settings.validation import validate

RAW = {name: settings.model_dump() for name, settings in TINY.items()}


def test_settings_that_fit_are_taken():
    result = validate(Gallery, RAW, "params.yaml")
    assert result.names == ["algorithms", "progressive", "shared", "inpainting", "guidance"]


@pytest.mark.parametrize(
    ("station", "changes", "message"),
    [
        ("algorithms", {"parts": 7}, "algorithms.parts: must be at most samples, 6"),
        ("progressive", {"times": 21}, "progressive.times: must be at most algorithms.timesteps, 20"),
        ("shared", {"sampling_steps": 21}, "shared.sampling_steps: must be at most algorithms.timesteps, 20"),
        ("shared", {"seeds": [3]}, "shared.seeds: needs at least two entries"),
        ("shared", {"seeds": [3, 3]}, "shared.seeds: names something twice"),
        ("shared", {"fractions": [0.5, 1.0]}, "shared.fractions: must be at least two that fall"),
        ("shared", {"fractions": [1.0, 0.99]}, "shared.fractions: must be different steps of the 8"),
        ("shared", {"fractions": [1.0, 0.01]}, "shared.fractions: must be different steps of the 8"),
        ("shared", {"fractions": [1.5, 0.5]}, "shared.fractions"),
        ("inpainting", {"sampling_steps": 30}, "inpainting.sampling_steps: must be at most algorithms"),
        ("inpainting", {"jump": 6}, "inpainting.jump: must be less than sampling_steps, 6"),
        ("inpainting", {"gaussian_resamplings": [2, 4]}, "gaussian_resamplings: must rise from 1"),
        ("inpainting", {"known": ["third"]}, "inpainting.known"),
        ("guidance", {"weights": [0.0, 1.0]}, "guidance.weights: must hold −1 and 0"),
        ("guidance", {"weights": [-2.0, -1.0, 0.0]}, "guidance.weights"),
        ("guidance", {"sampling_steps": 21}, "guidance.sampling_steps: must be at most timesteps, 20"),
        ("guidance", {"label_dropout": 1.0}, "guidance.label_dropout: expected a number ≥ 0 and < 1"),
    ],
)
def test_a_mistake_is_a_sentence_at_its_key(station, changes, message):
    raw = {**RAW, station: {**RAW[station], **changes}}
    with pytest.raises(UserError) as error:
        validate(Gallery, raw, "params.yaml")
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("station", ["progressive", "shared", "inpainting"])
def test_a_station_that_reads_another_needs_it(station):
    """Else its stage would wait for a file that nothing makes."""
    with pytest.raises(UserError, match=f"{station} reads algorithms, which must be a block here too"):
        validate(Gallery, {station: RAW[station]}, "params.yaml")
    with pytest.raises(UserError, match=f"{station} reads algorithms"):
        validate(Gallery, {station: RAW[station], "algorithms": None}, "params.yaml")


def test_a_gallery_without_any_of_them_is_fine():
    assert validate(Gallery, {}, "params.yaml").names == []
