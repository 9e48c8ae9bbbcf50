"""unCLIP: from a caption to an image embedding, from there to a scene."""

import torch

from mlegfn.randomness import generator
from reproduction.gallery.fitting import weights, with_weights
from reproduction.gallery.images.model import process_of
from reproduction.gallery.station import Result, Station
from reproduction.gallery.text.captions import scenes
from reproduction.gallery.text.judging import Judge, difference, everything, mean, share
from reproduction.gallery.text.painting import LOW, painters, reduce
from reproduction.gallery.text.reading import frozen
from reproduction.gallery.text.sphere import slerp
from reproduction.gallery.text.unclip import decode, imagine, standardised, train_decoder, train_prior
from reproduction.gallery.text.upsampling import upsample, upsampling_unet

COLUMNS = 7  # of the figure


class Prior(Station):
    """DALL-E 2 draws in two steps. A diffusion prior, a causal transformer, turns a caption into the CLIP embedding
    that its image could have; it predicts z_0 itself rather than the noise. A decoder, a diffusion model conditioned on
    an image embedding, draws an image that has it, and the cascade's super-resolution enlarges it. The embedding keeps
    what a picture shows and forgets the rest: decoding one embedding with other noise gives variations of a picture,
    and decoding the points of the great circle between two embeddings leads from one picture to the other.
    """

    title = "Prior and decoder"
    order = 14
    notes = "text-to-image: DALL-E 2, its Figure 9"
    reads = ("clip", "cascade")
    trained_once = True

    @classmethod
    def run(cls, settings, inputs):
        train, test = painters(inputs.images)
        language, process, seed = frozen(inputs), process_of(settings.noising), settings.seed
        rows = language.captions.seen[torch.arange(settings.scenes) % len(language.captions.seen)]
        pool = train.draw(rows, generator(seed, "gallery", "prior", "scenes"))
        with torch.no_grad():
            known = torch.cat([language.clip.image_embedding(part) for part in pool.split(512)])
        prior = train_prior(settings.transformer, language, rows, known, process, seed)
        decoder = train_decoder(settings.decoder, standardised(prior, known), reduce(pool), process, seed)
        draw = Drawing(settings, inputs, prior, decoder, process)
        real, another = everything(test, seed), everything(test, seed + 1)
        with torch.no_grad():
            image, second = language.clip.image_embedding(real), language.clip.image_embedding(another)
        captions = torch.arange(len(scenes()))
        imagined = imagine(
            prior,
            language,
            captions,
            process,
            settings.noising.steps,
            settings.guidance_prior,
            settings.candidates,
            generator(seed, "gallery", "prior", "imagined"),
        )
        text = language.embedding[captions]
        judge = Judge(language, train, settings.measuring, seed)
        pictures = {"imagined": draw(imagined), "text": draw(text), "image": draw(image)}
        quantities = embeddings(text, imagined, image, second, language, seed)
        quantities |= drawings(judge, pictures, real, image, language)
        return Result(
            quantities,
            {"captions": [scenes()[row].caption for row in shown(language.captions)]},
            {
                **weights(prior, "prior"),
                **weights(decoder, "decoder"),
                **figures(draw, image, real, pictures["imagined"], language.captions),
            },
        )


class Drawing:
    """Draws scenes [N, 1, 32, 32] from image embeddings [N, E] of length 1."""

    def __init__(self, settings, inputs, prior, decoder, process):
        self.settings, self.prior, self.decoder, self.process = settings, prior, decoder, process
        self.cascade = inputs.settings("cascade")
        self.enlarging = process_of(self.cascade.noising)
        self.upsampler = with_weights(
            upsampling_unet(self.cascade.upsampling.network), inputs.tensors("cascade"), "upsampler"
        )

    def __call__(self, embedding, same=False):
        """``same``: every embedding is decoded from the same noise, so that only the embedding makes a difference."""
        draw = generator(self.settings.seed, "gallery", "prior", "decoded")
        noise = torch.randn(1 if same else len(embedding), 1, LOW, LOW, generator=draw)
        low = decode(
            self.decoder,
            standardised(self.prior, embedding),
            noise.expand(len(embedding), -1, -1, -1),
            self.process,
            self.settings.noising.steps,
            self.settings.guidance_decoder,
        )
        return upsample(
            self.upsampler, low, self.enlarging, self.cascade.upsampling_steps, self.cascade.level, draw
        )


def embeddings(text, imagined, image, second, language, seed):
    """Quantities of the prior: cosines of embeddings [C, E], a row a caption, with those of real scenes."""
    order = torch.randperm(len(image), generator=generator(seed, "gallery", "prior", "shuffled"))
    cosine = {
        "text": (text * image).sum(1),
        "imagined": (imagined * image).sum(1),
        "shuffled": (imagined[order] * image).sum(1),
        "second": (second * image).sum(1),
    }
    held = language.captions.held_out
    return {
        "cosine_prior": mean(cosine["imagined"], "cosine of the prior's embedding with that of a real scene"),
        "cosine_prior_held_out": mean(cosine["imagined"][held], "the same for captions held out"),
        "cosine_text": mean(
            cosine["text"], "cosine of the caption's own embedding with that of a real scene"
        ),
        "cosine_shuffled": mean(cosine["shuffled"], "cosine of the prior's embedding for another caption"),
        "cosine_scenes": mean(cosine["second"], "cosine of two real scenes of one caption"),
        "text_minus_prior": difference(
            cosine["text"], cosine["imagined"], "cosine of the caption's embedding minus that of the prior's"
        ),
        "shuffled_minus_prior": difference(
            cosine["shuffled"], cosine["imagined"], "cosine for another caption minus for its own"
        ),
        "shuffled_minus_prior_held_out": difference(
            cosine["shuffled"][held], cosine["imagined"][held], "the same of held-out captions"
        ),
    }


def drawings(judge, pictures, real, image, language):
    """Quantities of pictures [C, 1, 32, 32], a row a caption."""
    seen = {name: judge(scene) for name, scene in {"real": real, **pictures}.items()}
    with torch.no_grad():
        again = language.clip.image_embedding(pictures["image"].clamp(-1, 1))
    order = torch.randperm(len(image), generator=generator(judge.seed, "gallery", "prior", "again"))
    back, other = (again * image).sum(1), (again[order] * image).sum(1)
    group, imagined = language.captions, seen["imagined"]
    return {
        "cosine_decoded": mean(back, "cosine of a real scene and of what is decoded from it"),
        "cosine_decoded_shuffled": mean(other, "the same of another scene"),
        "decoded_shuffled_minus_own": difference(other, back, "the second minus the first"),
        "all_real": share(seen["real"]["all"], "real test scenes that show all that their caption says"),
        "all_image": share(seen["image"]["all"], "scenes decoded from a real scene that do"),
        "all": share(
            imagined["all"][group.seen], "scenes by prior and decoder that do, captions of the training"
        ),
        "all_held_out": share(imagined["all"][group.held_out], "the same, captions held out"),
        "digits": share(imagined["digits"], "scenes by prior and decoder whose digits are right"),
        "place": share(imagined["place"], "scenes by prior and decoder whose one digit is at its place"),
        "clip": share(imagined["clip"], f"scenes whose caption CLIP retrieves among {len(image)}"),
        "all_text": share(
            seen["text"]["all"], "scenes decoded from the caption's own embedding that show all"
        ),
        "text_minus_prior_all": difference(
            seen["text"]["all"], imagined["all"], "share that shows all: without the prior minus with it"
        ),
        "shuffled_minus_all": difference(
            judge.shuffled(pictures["imagined"])["all"],
            imagined["all"],
            "share that shows a shuffled caption minus that of its own",
        ),
    }


def shown(captions):
    """Rows of the seven captions in the figure: with one digit and with two, the last two held out."""
    singles = [row for row in captions.seen.tolist() if len(scenes()[row].digits) == 1]
    pairs = [row for row in captions.seen.tolist() if len(scenes()[row].digits) == 2]
    out = captions.held_out.tolist()
    picked = [
        group[(2 * k + 1) * len(group) // (2 * n)]
        for group, n in ((singles, 3), (pairs, 2))
        for k in range(n)
    ]
    return [*picked, out[len(out) // 5], out[4 * len(out) // 5]]


def figures(draw, image, real, imagined, captions):
    """Tensors of the figure: captions drawn, two ways along the sphere, variations of two scenes."""
    rows = shown(captions)
    pictures = {"imagined": imagined[rows]}
    for name, (start, end) in {"way-0": (rows[0], rows[2]), "way-1": (rows[3], rows[4])}.items():
        along = torch.cat([slerp(image[[start]], image[[end]], k / (COLUMNS - 1)) for k in range(COLUMNS)])
        pictures[name], pictures[f"{name}-ends"] = draw(along, same=True), real[[start, end]]
    for name, row in {"variations-0": rows[1], "variations-1": rows[3]}.items():
        pictures[name] = torch.cat([real[[row]], draw(image[[row]].expand(COLUMNS - 1, -1))])
    return pictures
