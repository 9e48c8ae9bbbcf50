"""CLIP: captions and scenes in one space, learnt by telling pairs from others."""

import torch

from mlegfn.randomness import generator
from reproduction.gallery.fitting import fit, initialised, weights
from reproduction.gallery.station import Quantity, Result, Station
from reproduction.gallery.text.captions import scenes
from reproduction.gallery.text.contrast import contrastive_loss, retrieved, top_1
from reproduction.gallery.text.encoders import Clip as Encoders
from reproduction.gallery.text.painting import painters
from reproduction.gallery.text.reading import captions


class Clip(Station):
    """A picture and its caption become vectors of one space: two encoders are trained so that, among all pictures and
    captions of a batch, the cosine of those that belong together is the largest. Nobody tells them what a seven or a
    left side is. The pictures are scenes made of real digits, with captions from a closed vocabulary. Test scenes use
    digits that were not trained on, and some captions are held out: their words are known, their combination is new.
    The stations on text-to-image read the first seed's encoders.
    """

    title = "CLIP"
    order = 12
    notes = "text-to-image: contrastive text and image embeddings"

    @classmethod
    def run(cls, settings, inputs):
        train, test = painters(inputs.images)
        texts, runs, logs = captions(settings), [], []
        for seed in settings.seeds:
            log = []
            runs.append(trained(settings, texts, train, seed, log))
            logs.append(log)
        scene = [
            test.draw(
                torch.arange(len(scenes())), generator(settings.split_seed, "gallery", "clip", "test", k)
            )
            for k in range(settings.rounds)
        ]
        measured = [measure(clip, texts, scene, settings, seed) for clip, seed in zip(runs, settings.seeds)]
        quantities = {
            name: Quantity(what, [run[name] for run in measured])
            for name, what in descriptions(texts).items()
        }
        return Result(
            quantities,
            {"loss": curve(logs[0]), "parameters": parameters(runs[0]), **shown(runs[0], texts, scene[0])},
            {**weights(runs[0], "clip"), "scenes": scene[0][pictured()]},
        )


def trained(settings, texts, train, seed, log=None, shuffled=False):
    """``Encoders`` after contrastive training on the seen captions; ``shuffled``: each scene with another's caption."""
    clip = initialised(lambda: Encoders(texts.words, settings), seed, "gallery", "clip")

    def loss(step):
        draw = generator(seed, "gallery", "clip", step)
        # Different captions: a second scene of the same caption would be a pair that counts as none.
        rows = texts.seen[torch.randperm(len(texts.seen), generator=draw)[: settings.batch]]
        scene = train.draw(rows, draw)
        if shuffled:
            rows = rows[torch.randperm(len(rows), generator=draw)]
        return contrastive_loss(clip(texts.tokens[rows], texts.mask[rows], scene))

    return fit(clip, loss, settings.steps, settings.optimizer, f"CLIP {seed}", log)


@torch.no_grad()
def measure(clip, texts, rounds, settings, seed):
    """{name: share} of ``descriptions``: top-1 retrieval among all captions, over ``rounds`` of a test scene for each caption."""
    text, right = clip.text_embedding(texts.tokens, texts.mask), torch.arange(len(texts.tokens))
    caption, picture, chance = [], [], []
    for k, scene in enumerate(rounds):
        image = clip.image_embedding(scene)
        caption.append(top_1(image, text, right))
        picture.append(top_1(text, image, right))
        order = torch.randperm(len(right), generator=generator(seed, "gallery", "clip", "shuffled", k))
        chance.append(top_1(image, text[order], right))
    caption, picture = torch.stack(caption).double().mean(0), torch.stack(picture).double().mean(0)
    values = {
        "caption_of_scene": caption[texts.seen],
        "scene_of_caption": picture[texts.seen],
        "caption_of_scene_held_out": caption[texts.held_out],
        "scene_of_caption_held_out": picture[texts.held_out],
        "shuffled": torch.stack(chance).double(),
    }
    shares = {name: value.mean().item() for name, value in values.items()}
    over = 1 / len(right)
    return {
        **shares,
        "chance": over,
        "margin": 20 * over - min(shares[name] for name in list(values)[:2]),
        "margin_held_out": 20 * over - min(shares[name] for name in list(values)[2:4]),
        "shuffled_above_chance": shares["shuffled"] - over,
    }


def descriptions(texts):
    """{name: phrase} of what is measured."""
    count, out = len(texts.tokens), len(texts.held_out)
    return {
        "caption_of_scene": f"top-1 accuracy: a test scene's caption among {count}",
        "scene_of_caption": f"top-1 accuracy: a caption's test scene among {count}",
        "caption_of_scene_held_out": f"the first for the {out} captions that were held out",
        "scene_of_caption_held_out": f"the second for the {out} captions that were held out",
        "shuffled": "a scene's caption, captions shuffled",
        "chance": "chance: one caption in all",
        "margin": "twenty times chance minus the lower of both accuracies",
        "margin_held_out": "the same for held-out captions",
        "shuffled_above_chance": "accuracy with shuffled captions minus chance",
    }


def pictured():
    """Rows of the fourteen captions in the figure: a digit of every class, sizes, places and inks in turn; four pairs."""
    one = [16 * d + 8 * (d % 2) + 2 * (3 * d % 4) + d // 2 % 2 for d in range(10)]
    return torch.tensor([*one, 205, 232, 287, 318])


@torch.no_grad()
def shown(clip, texts, scene):
    """For the figure: cosines of some scenes with their captions, and what each scene retrieves."""
    rows = pictured()
    text, image = clip.text_embedding(texts.tokens, texts.mask), clip.image_embedding(scene[rows])
    return {
        "captions": [scenes()[row].caption for row in rows],
        "held_out": [bool((texts.held_out == row).any()) for row in rows],
        "retrieved": [scenes()[row].caption for row in retrieved(image, text)],
        "cosines": (image @ text[rows].T).double().tolist(),
        "temperature": clip.log_scale.neg().exp().item(),
    }


def curve(log):
    """The loss in at most 100 means of neighbouring steps."""
    every = max(1, len(log) // 100)
    parts = [log[k : k + every] for k in range(0, len(log), every)]
    return [{"step": part[-1]["step"], "loss": sum(e["loss"] for e in part) / len(part)} for part in parts]


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())
