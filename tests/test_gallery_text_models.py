"""The stations clip, cascade and prior: what their networks must not see, and tiny runs from settings to figure."""

import pytest
import torch
from gallery_text import CASCADE, CLIP, PRIOR, TinyInputs, untrained_clip

from mlegfn.data import digits
from mlegfn.errors import UserError
from mlegfn.gallery import cascade, clip, prior
from mlegfn.gallery._images.model import process_of
from mlegfn.gallery._text import drawing, unclip, upsampling
from mlegfn.gallery._text.painting import painters, reduce
from mlegfn.gallery._text.reading import captions, frozen
from mlegfn.gallery.fitting import initialised, with_weights
from mlegfn.gallery.settings import text
from mlegfn.randomness import generator
from mlegfn.report import style
from mlegfn.validation import validate


@pytest.fixture(scope="module")
def told():
    return frozen(TinyInputs())


@pytest.fixture(scope="module")
def base(told):
    return initialised(
        lambda: drawing.attending_unet(CASCADE.from_text.network, 2, told.states.shape[2]), 0, "base"
    ).eval()


@pytest.fixture(scope="module")
def transformer(told):
    train = torch.randn(50, 16, generator=generator(0, "embeddings")) * 3 + 1
    network = initialised(lambda: unclip.prior_transformer(PRIOR.transformer, told.states, 16, train), 0, "p")
    return network.eval(), train


# --- clip -----------------------------------------------------------------------------------------------------------


def small(**more):
    return CLIP.model_copy(
        update={"steps": 100, "batch": 32, "channels": [8, 16, 16], "rounds": 2, "width": 32, **more}
    )


def test_contrast_learns_pairs_and_nothing_from_shuffled_captions():
    """A hundred steps suffice for many times chance. Trained with the captions of other scenes it must stay near chance: if
    it did not, the pairs would have leaked by another way."""
    train, test = painters(digits.load())
    found = captions(CLIP)
    scene = [test.draw(torch.arange(360), generator(0, k)) for k in range(2)]
    optimizer = CLIP.optimizer.model_copy(update={"lr": 0.004})
    settings = small(optimizer=optimizer)
    pairs = clip.measure(clip.trained(settings, found, train, 0), found, scene, settings, 0)
    none = clip.measure(clip.trained(settings, found, train, 0, shuffled=True), found, scene, settings, 0)
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


# --- cascade --------------------------------------------------------------------------------------------------------


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
    found = cascade.Cascade.run(CASCADE, TinyInputs())
    assert {"all", "all_held_out", "shuffled_minus_all", "plain_minus_augmented"} <= set(found.quantities)
    assert found.quantities["all_real"].values[0] > 0.8  # the judges work, though the networks are untrained
    rebuilt = with_weights(upsampling.upsampling_unet(CASCADE.upsampling.network), found.tensors, "upsampler")
    assert rebuilt.config.class_embed_type == "timestep"
    drawn("cascade", found, CASCADE)


# --- prior ----------------------------------------------------------------------------------------------------------


def test_prior_reads_from_left_to_right(told, transformer):
    """Changing z_t, the last token but one, changes no state before it, and the one after it. Without the mask,
    PriorTransformer is not causal at all."""
    network, _ = transformer
    states, kept = [], network.norm_out.register_forward_hook(lambda *found: states.append(found[2]))
    one, other = torch.randn(2, 1, 16, generator=generator(0))
    rows = torch.tensor([7])
    with torch.no_grad():
        for z in (one, other):
            unclip.of_caption(network, told, rows)(z, torch.tensor([3]))
        for z in (one, other):
            network(z, torch.tensor([3]), told.embedding[rows], told.states[rows])
    kept.remove()
    before = told.states.shape[1] + 2  # token states, the caption's embedding, t
    assert torch.equal(states[0][:, :before], states[1][:, :before])
    assert not torch.allclose(states[0][:, before + 1], states[1][:, before + 1], atol=1e-5)
    assert not torch.allclose(states[2][:, :before], states[3][:, :before], atol=1e-5)


def test_prior_does_not_read_padding(told, transformer):
    network, _ = transformer
    rows, z, time = torch.tensor([7]), torch.randn(1, 16, generator=generator(0)), torch.tensor([3])
    states, mask = told.states[rows].clone(), told.mask[rows]
    right = network(z, time, told.embedding[rows], states, mask).predicted_image_embedding
    states[~mask] = 9.0
    assert torch.allclose(
        network(z, time, told.embedding[rows], states, mask).predicted_image_embedding, right, atol=1e-5
    )


def test_standardised_embeddings_and_back(transformer):
    """clip_mean and clip_std start as zeros in diffusers: every sample would be one point, and training divide by 0."""
    network, train = transformer
    z = unclip.standardised(network, train)
    assert torch.allclose(z.mean(0), torch.zeros(16), atol=1e-5) and torch.allclose(z.std(0), torch.ones(16))
    assert torch.allclose(network.post_process_latents(z), train, atol=1e-5)
    assert not network.clip_mean.requires_grad and not network.clip_std.requires_grad


def test_prior_wants_states_as_wide_as_embeddings(told):
    with pytest.raises(ValueError, match="as wide as embeddings, got 16 and 8"):
        unclip.prior_transformer(PRIOR.transformer, told.states, 8, torch.randn(5, 8))


def test_the_better_of_the_candidates_is_taken(told, transformer):
    network, _ = transformer
    process, rows = process_of(PRIOR.noising), torch.arange(20)

    def cosines(count):
        z = unclip.imagine(network, told, rows, process, 2, 0.0, count, generator(0))
        assert torch.allclose(z.norm(dim=1), torch.ones(20), atol=1e-5)
        return (z * told.embedding[rows]).sum(1)

    one, three = cosines(1), cosines(3)
    assert (three >= one - 1e-6).all() and (three > one + 1e-4).any()


def test_decoder_depends_on_its_embedding():
    network = initialised(lambda: unclip.decoder_unet(PRIOR.decoder.network, 16), 0, "d").eval()
    noise, process = torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1), process_of(PRIOR.noising)
    told = unclip.decode(network, torch.randn(2, 16), noise, process, 2, 0.0)
    untold = unclip.decode(network, torch.randn(2, 16), noise, process, 2, -1.0)
    assert not torch.allclose(*told, atol=1e-4) and torch.allclose(*untold, atol=1e-6)


def test_prior_from_settings_to_figure():
    found = prior.Prior.run(PRIOR, TinyInputs())
    assert found.quantities["cosine_scenes"].values[0] <= 1
    assert found.tensors["imagined"].shape == (7, 1, 32, 32)
    drawn("prior", found, PRIOR)


def test_other_weights_than_clips_are_refused():
    inputs = TinyInputs()
    inputs.found["clip"] = {"clip.text.position": torch.zeros(3, 3)}
    with pytest.raises(ValueError, match="another network"):
        frozen(inputs)
    assert frozen(TinyInputs()).states.shape == (361, 9, 16) and len(untrained_clip().text.position) == 9


# --- settings -------------------------------------------------------------------------------------------------------


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


def drawn(name, found, settings):
    """The figure, caption and table of the station, as ``report.gallery.drawing`` makes them."""
    import importlib
    from types import SimpleNamespace

    from mlegfn.report.gallery import drawing as report

    module = importlib.import_module(f"mlegfn.report.gallery.{name}")
    shown = SimpleNamespace(
        quantities={key: each.as_json() for key, each in found.quantities.items()},
        details=found.details,
        settings=settings.model_dump(mode="json"),
        tensors={key: each.detach().numpy() for key, each in found.tensors.items()},
    )
    assert style.draw(module.plot, shown)["png"].startswith(b"\x89PNG")
    assert module.caption(shown).endswith(".")
    table = module.table(shown) if hasattr(module, "table") else report.quantities(shown)
    assert len(table) and not table.isna().all(axis=0).any()
