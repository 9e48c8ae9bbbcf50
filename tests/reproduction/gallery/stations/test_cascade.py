"""The station cascade: what its networks must and must not see, and a tiny run from settings to figure."""

import pytest
import torch
from helpers.gallery_text import CASCADE, TinyInputs, drawn

from mlegfn.data import digits
from mlegfn.randomness import generator
from reproduction.gallery.fitting import initialised, with_weights
from reproduction.gallery.images.model import process_of
from reproduction.gallery.stations import cascade
from reproduction.gallery.text import drawing, upsampling
from reproduction.gallery.text.painting import painters, reduce
from reproduction.gallery.text.reading import frozen


@pytest.fixture(scope="module")
def told():
    return frozen(TinyInputs())


@pytest.fixture(scope="module")
def base(told):
    return initialised(
        lambda: drawing.attending_unet(CASCADE.from_text.network, 2, told.states.shape[2]), 0, "base"
    ).eval()


def test_pixels_do_not_attend_to_padding(told, base):
    """Other states, and more of them, where the mask is False: the same output. Without the mask it is another."""
    x, time = torch.randn(3, 1, 8, 8, generator=generator(0)), torch.tensor([1, 5, 19])
    states, mask = told.states[[0, 200, 359]], told.mask[[0, 200, 359]]
    mask = mask.clone()
    mask[:, 7:] = False

    def out(states, mask):
        return base(x, time, encoder_hidden_states=states, encoder_attention_mask=mask).sample

    right = out(states, mask)
    other = torch.where(mask[:, :, None], states, torch.randn(states.shape, generator=generator(1)))
    longer = torch.cat([other, other], 1), torch.cat([mask, torch.zeros_like(mask)], 1)
    assert torch.allclose(out(other, mask), right, atol=1e-5)
    assert torch.allclose(out(*longer), right, atol=1e-5)
    assert not torch.allclose(out(other, None), out(states, None), atol=1e-5)


def test_what_is_drawn_depends_on_words_only_where_the_weight_says_so(told, base):
    """w = −1 is the model that is told nothing: it draws the same for every caption. w = 0 is the conditional model."""
    process, noise = process_of(CASCADE.noising), torch.randn(1, 1, 8, 8, generator=generator(0))
    two = torch.tensor([3, 300])

    def draw(weight, rows=two):
        return drawing.draw_from_text(
            base, told, rows, noise.expand(len(rows), -1, -1, -1), process, 2, weight
        )

    assert torch.allclose(*draw(-1.0), atol=1e-6)
    assert torch.allclose(draw(-1.0)[0], draw(0.0, torch.tensor([told.nothing]))[0], atol=1e-6)
    assert not torch.allclose(*draw(0.0), atol=1e-4)


def test_untold_training_is_told_nothing(told, monkeypatch):
    """With ``untold`` near 1 the U-Net must only ever see the caption without words."""
    settings = CASCADE.from_text.model_copy(update={"untold": 0.999999, "steps": 1})
    seen, real = [], drawing.predictor
    monkeypatch.setattr(
        drawing, "predictor", lambda network, told, rows: seen.append(rows) or real(network, told, rows)
    )
    low = torch.zeros(8, 1, 8, 8)
    drawing.train_from_text(settings, told, torch.arange(8), low, process_of(CASCADE.noising), 0)
    assert all((rows == told.nothing).all() for rows in seen) and seen


def test_upsampling_is_told_the_level_and_sees_the_small_scene():
    network = initialised(lambda: upsampling.upsampling_unet(CASCADE.upsampling.network), 0, "u").eval()
    x, time, low = torch.randn(2, 1, 32, 32), torch.tensor([3, 3]), torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        out = [
            upsampling.predictor(network, small, torch.tensor([level] * 2))(x, time)
            for small, level in ((low, 0), (low, 3), (-low, 0))
        ]
    assert out[0].shape == (2, 1, 32, 32)
    assert not torch.allclose(out[0], out[1], atol=1e-5) and not torch.allclose(out[0], out[2], atol=1e-5)


def test_without_augmentation_the_small_scene_is_exact(monkeypatch):
    """Level 0 adds nothing, and training draws levels up to ``augmentation`` inclusive."""
    process, seen = process_of(CASCADE.noising), []
    real = upsampling.predictor
    monkeypatch.setattr(
        upsampling,
        "predictor",
        lambda network, low, level: seen.append((low, level)) or real(network, low, level),
    )
    scene = painters(digits.load())[0].draw(torch.arange(8), generator(0))
    settings = CASCADE.upsampling.model_copy(update={"steps": 4, "batch": 8})
    upsampling.train_upsampler(settings, scene, process, 0, 0)
    assert all(torch.allclose(low.sort(0).values, reduce(scene).sort(0).values) for low, _ in seen)
    del seen[:]
    upsampling.train_upsampler(settings, scene, process, 0, 4)
    assert torch.cat([level for _, level in seen]).unique().tolist() == [0, 1, 2, 3, 4]


def test_cascade_from_settings_to_figure():
    result = cascade.Cascade.run(CASCADE, TinyInputs())
    assert {"all", "all_held_out", "shuffled_minus_all", "plain_minus_augmented"} <= set(result.quantities)
    assert result.quantities["all_real"].values[0] > 0.8  # the judges work, though the networks are untrained
    rebuilt = with_weights(
        upsampling.upsampling_unet(CASCADE.upsampling.network), result.tensors, "upsampler"
    )
    assert rebuilt.config.class_embed_type == "timestep"
    drawn("cascade", result, CASCADE)
