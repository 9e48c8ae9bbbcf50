"""A diffusion prior from captions to image embeddings, and a decoder from these to scenes (Ramesh et al. 2022)."""

import torch
from diffusers import PriorTransformer, UNet2DConditionModel

from mlegfn.randomness import batch_indices, generator
from reproduction.gallery.fitting import fit, initialised
from reproduction.gallery.text.blocks import blocks
from reproduction.gallery.text.guidance import ddim, guided
from reproduction.gallery.text.painting import LOW

__all__ = [
    "decode",
    "decoder_unet",
    "imagine",
    "prior_transformer",
    "standardised",
    "train_decoder",
    "train_prior",
]

AFTER_TEXT = 4  # tokens: the caption's embedding, t, the noised image embedding, and the one that is read


def prior_transformer(settings, states, embedding, train):
    """diffusers' PriorTransformer over the sequence: token states [L, width], the caption's embedding, t, z_t, and a
    learnt token, whose last state becomes the predicted z_0 (Ramesh et al. 2022, arXiv 2204.06125, §2.2).

    Its attention is causal only where it gets a mask. Its constants clip_mean and clip_std, which start as zeros, are
    set to those of the training embeddings ``train`` [N, E].

    :raises ValueError: where token states and embeddings differ in size: the class maps both with one size
    """
    length, width = states.shape[1:]
    if width != embedding:
        raise ValueError(
            f"PriorTransformer wants token states as wide as embeddings, got {width} and {embedding}"
        )
    network = PriorTransformer(
        num_attention_heads=settings.heads,
        attention_head_dim=settings.width // settings.heads,
        num_layers=settings.layers,
        embedding_dim=embedding,
        num_embeddings=length,
        additional_embeddings=AFTER_TEXT,
    )
    network.clip_mean.requires_grad_(False).copy_(train.mean(0, keepdim=True))
    network.clip_std.requires_grad_(False).copy_(train.std(0, keepdim=True).clamp(min=1e-6))
    return network


def standardised(network, embedding):
    """Embeddings [N, E] with mean 0 and variance 1 in each dimension; ``network.post_process_latents`` is the inverse."""
    return (embedding - network.clip_mean) / network.clip_std


def train_prior(settings, language, rows, embedding, process, seed):
    """The averaged transformer that predicts z_0 from z_t, not ε, as in the paper (eq. 2), for scenes with
    ``embedding`` [N, E] and captions ``rows`` [N]; ``settings.untold`` of these are replaced by none."""
    network = initialised(
        lambda: prior_transformer(settings, language.states, embedding.shape[1], embedding),
        seed,
        "gallery",
        "prior",
    )
    target = standardised(network, embedding)

    def loss(step):
        draw = generator(seed, "gallery", "prior", step)
        which = batch_indices(seed, "prior", step, settings.batch, len(target))
        z_0 = target[which]
        untold = torch.rand(len(which), generator=draw) < settings.untold
        caption = torch.where(untold, language.nothing, rows[which])
        t = torch.randint(1, process.timesteps + 1, (len(which),), generator=draw)
        z_t = process.noise(z_0, t, torch.randn(z_0.shape, generator=draw))
        return (z_0 - of_caption(network, language, caption)(z_t, t - 1)).square().mean()

    return fit(network, loss, settings.steps, settings.optimizer, "prior")


def of_caption(network, language, captions):
    """x_0(z, time) of the prior for captions [N] (rows of ``language``). The mask also makes the attention causal."""
    states, mask, embedding = language.states[captions], language.mask[captions], language.embedding[captions]

    def predict(z, time):
        return network(
            z, time, embedding, encoder_hidden_states=states, attention_mask=mask, return_dict=False
        )[0]

    return predict


def imagine(network, language, captions, process, steps, weight, candidates, draw):
    """[N, E] of length 1: an image embedding for each caption [N]: of ``candidates`` samples of the prior, the one
    with the larger cosine with the caption's own embedding (the paper takes the better of two)."""
    predict = guided(
        of_caption(network, language, captions),
        of_caption(network, language, torch.full_like(captions, language.nothing)),
        weight,
    )
    best = None
    for _ in range(candidates):
        noise = torch.randn(len(captions), language.embedding.shape[1], generator=draw)
        z = ddim(predict, noise, process, steps, prediction="sample", bound=None)
        z = torch.nn.functional.normalize(network.post_process_latents(z), dim=1)
        cosine = (z * language.embedding[captions]).sum(1, keepdim=True)
        if best is None:
            best, highest = z, cosine
        best, highest = torch.where(cosine > highest, z, best), torch.maximum(cosine, highest)
    return best


def decoder_unet(network, embedding):
    """UNet2DConditionModel of a settings.training.Network, (x_t [N, 1, 8, 8], t, image embedding [N, E]) → ε: the embedding is
    projected and added to that of the time (Ramesh et al. 2022, §2.1)."""
    return UNet2DConditionModel(
        **blocks(network),
        sample_size=LOW,
        in_channels=1,
        out_channels=1,
        mid_block_type="UNetMidBlock2D",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=embedding,
    )


def train_decoder(settings, embedding, low, process, seed):
    """The averaged U-Net trained on scenes ``low`` [N, 1, 8, 8] with standardised ``embedding`` [N, E], which is
    replaced by its mean, 0, with probability ``settings.untold``."""
    network = initialised(
        lambda: decoder_unet(settings.network, embedding.shape[1]), seed, "gallery", "decoder"
    )

    def loss(step):
        draw = generator(seed, "gallery", "decoder", step)
        which = batch_indices(seed, "decoder", step, settings.batch, len(low))
        x_0 = low[which]
        known = torch.rand(len(which), 1, generator=draw) >= settings.untold
        t = torch.randint(1, process.timesteps + 1, (len(which),), generator=draw)
        eps = torch.randn(x_0.shape, generator=draw)
        out = of_embedding(network, embedding[which] * known)(process.noise(x_0, t, eps), t - 1)
        return (eps - out).square().mean()

    return fit(network, loss, settings.steps, settings.optimizer, "decoder")


def of_embedding(network, embedding):
    """ε(x, time) of the decoder for standardised embeddings [N, E]."""

    def predict(x, time):
        return network(x, time, None, class_labels=embedding, return_dict=False)[0]

    return predict


def decode(network, embedding, noise, process, steps, weight):
    """[N, 1, 8, 8]: a scene of each standardised embedding [N, E] from ``noise``, guided with ``weight``."""
    untold = of_embedding(network, torch.zeros_like(embedding))
    return ddim(guided(of_embedding(network, embedding), untold, weight), noise, process, steps)
