"""The station prior: what its transformer reads, its constants, and a tiny run from settings to figure."""

import pytest
import torch
from helpers.gallery_text import PRIOR, TinyInputs, drawn

from mlegfn.randomness import generator
from reproduction.gallery.fitting import initialised
from reproduction.gallery.images.model import process_of
from reproduction.gallery.stations import prior
from reproduction.gallery.text import unclip
from reproduction.gallery.text.reading import frozen


@pytest.fixture(scope="module")
def told():
    return frozen(TinyInputs())


@pytest.fixture(scope="module")
def transformer(told):
    train = torch.randn(50, 16, generator=generator(0, "embeddings")) * 3 + 1
    network = initialised(lambda: unclip.prior_transformer(PRIOR.transformer, told.states, 16, train), 0, "p")
    return network.eval(), train


def test_prior_reads_from_left_to_right(told, transformer):
    """Changing z_t, the last token but one, changes no state before it, and the one after it. Without the mask,
    PriorTransformer is not causal at all."""
    network, _ = transformer
    states, kept = [], network.norm_out.register_forward_hook(lambda *result: states.append(result[2]))
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
    result = prior.Prior.run(PRIOR, TinyInputs())
    assert result.quantities["cosine_scenes"].values[0] <= 1
    assert result.tensors["imagined"].shape == (7, 1, 32, 32)
    drawn("prior", result, PRIOR)
