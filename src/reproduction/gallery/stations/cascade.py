"""Text to image by a cascade: a small scene from words, then super-resolution."""

import torch

from mlegfn.randomness import generator
from reproduction.gallery.fitting import weights
from reproduction.gallery.images.model import process_of
from reproduction.gallery.station import Result, Station
from reproduction.gallery.text.captions import scenes
from reproduction.gallery.text.drawing import draw_from_text, train_from_text
from reproduction.gallery.text.judging import Judge, difference, everything, share
from reproduction.gallery.text.painting import LOW, painters, reduce
from reproduction.gallery.text.reading import frozen
from reproduction.gallery.text.seeing import ASPECTS
from reproduction.gallery.text.upsampling import train_upsampler, upsample


class Cascade(Station):
    """Text-to-image models of the first kind draw a small picture and enlarge it. The first diffusion model's pixels
    attend to the states of the caption's words in CLIP's frozen text encoder; the second sees the small picture beside
    its own noisy large one. Classifier-free guidance extrapolates from what the first model would draw untold,
    ε = ε_c + w(ε_c − ε_u). The second is trained on small pictures with a little noise, and is told how much, so that
    it forgives the first one's mistakes. Classifiers that have seen real scenes alone judge whether the picture shows
    what its caption says, for captions of the training and for combinations of words that were held out.
    """

    title = "Text-to-image cascade"
    order = 13
    notes = "text-to-image: GLIDE and Imagen"
    reads = ("clip",)
    trained_once = True

    @classmethod
    def run(cls, settings, inputs):
        train, test = painters(inputs.images)
        language, process, seed = frozen(inputs), process_of(settings.noising), settings.seed
        rows = language.captions.seen[torch.arange(settings.scenes) % len(language.captions.seen)]
        pool = train.draw(rows, generator(seed, "gallery", "cascade", "scenes"))
        base = train_from_text(settings.from_text, language, rows, reduce(pool), process, seed)
        upsamplers = {
            name: train_upsampler(settings.upsampling, pool, process, seed, largest)
            for name, largest in (("augmented", settings.upsampling.augmentation), ("plain", 0))
        }
        judge, real = Judge(language, train, settings.measuring, seed), everything(test, seed)
        low = {weight: drawn(base, language, process, settings, weight) for weight in settings.guidance}
        main = settings.guidance[-1]
        tried = {
            **{f"guidance {w:g}": (low[w], "augmented", settings.level) for w in settings.guidance},
            **{f"level {s}": (low[main], "augmented", s) for s in settings.levels if s != settings.level},
            "plain": (low[main], "plain", 0),
            "enlarged": (reduce(real), "augmented", settings.level),
        }
        large = {
            name: enlarged(upsamplers[network], small, process, settings, level)
            for name, (small, network, level) in tried.items()
        }
        large[f"level {settings.level}"] = large[f"guidance {main:g}"]
        seen = {name: judge(scene) for name, scene in {"real": real, **large}.items()}
        result = Result(
            quantities(seen, judge.shuffled(large[f"guidance {main:g}"]), settings, language.captions),
            {
                "aspects": table(seen, language.captions),
                "captions": [scenes()[row].caption for row in shown(language.captions)],
                "held_out": [row in language.captions.held_out.tolist() for row in shown(language.captions)],
                "levels": settings.levels,
            },
            {**weights(base, "base"), **weights(upsamplers["augmented"], "upsampler")},
        )
        pictured = {"small": low[main], "plain": large["plain"], "untold": large["guidance 0"]}
        pictured |= {"large": large[f"guidance {main:g}"], "real": real}
        result.tensors |= {name: value[shown(language.captions)] for name, value in pictured.items()}
        return result


def drawn(base, language, process, settings, weight):
    """[C, 1, 8, 8]: a sample for each caption; equal noise for every weight."""
    noise = torch.randn(
        len(scenes()), 1, LOW, LOW, generator=generator(settings.seed, "gallery", "cascade", "small")
    )
    captions = torch.arange(len(scenes()))
    return draw_from_text(base, language, captions, noise, process, settings.noising.steps, weight)


def enlarged(network, low, process, settings, level):
    """[N, 1, 32, 32] of ``low`` [N, 1, 8, 8]; equal noise for every network and level."""
    draw = generator(settings.seed, "gallery", "cascade", "large")
    return upsample(network, low, process, settings.upsampling_steps, level, draw)


def quantities(seen, shuffled, settings, captions):
    """What claims speak about; shares are of captions, one scene each."""
    main = settings.guidance[-1]
    made, real, held = seen[f"guidance {main:g}"], seen["real"], captions.held_out
    none, plain, sharp = seen["guidance 0"], seen["plain"], seen[f"level {settings.level}"]
    guidance = f"w = {main:g}"
    return {
        "all_real": share(real["all"], "real test scenes that show all that their caption says"),
        "all": share(made["all"][captions.seen], f"samples that do, {guidance}, captions of the training"),
        "all_held_out": share(made["all"][held], f"samples that do, {guidance}, captions held out"),
        "all_shuffled": share(shuffled["all"], "samples that show all that another's caption says"),
        "digits": share(made["digits"], f"samples whose digits are right, {guidance}"),
        "place": share(made["place"], f"samples whose one digit is at its place, {guidance}"),
        "size": share(made["size"], f"samples whose one digit has its size, {guidance}"),
        "relation": share(made["relation"], f"samples whose two digits stand as said, {guidance}"),
        "dark": share(made["dark"], f"samples with dark ink if and only if it was asked for, {guidance}"),
        "clip": share(
            made["clip"], f"samples whose caption CLIP retrieves among {len(made['clip'])}, {guidance}"
        ),
        "clip_shuffled": share(shuffled["clip"], "samples that retrieve another's caption"),
        "enlarged": share(seen["enlarged"]["all"], "real small scenes that do after super-resolution"),
        "shuffled_minus_all": difference(
            shuffled["all"], made["all"], "share that shows a shuffled caption minus that of its own"
        ),
        "shuffled_minus_held_out": difference(
            shuffled["all"][held], made["all"][held], "the same of held-out captions"
        ),
        "unguided_minus_guided": difference(
            none["all"], made["all"], f"share that shows its caption with w = 0 minus with {guidance}"
        ),
        "plain_minus_augmented": difference(
            plain["digits"],
            sharp["digits"],
            f"share with right digits, super-resolution without augmentation minus with it, level {settings.level}",
        ),
    }


def table(seen, captions):
    """[{"of", "captions", aspect: share …}]: every aspect of every set of scenes, seen captions and held-out ones."""
    rows = []
    for name, marks in seen.items():
        row = {aspect: marks[aspect].double().mean().item() for aspect in (*ASPECTS, "all", "clip")}
        for group in ("seen", "held_out"):
            row[f"all_{group}"] = marks["all"][getattr(captions, group)].double().mean().item()
        rows.append({"of": name, **row})
    return rows


def shown(captions, count=4):
    """Rows of the captions in the figure: four of the training and four that were held out, with one digit and two."""
    rows = []
    for group in (captions.seen, captions.held_out):
        for digits in (1, 2):
            own = [row for row in group.tolist() if len(scenes()[row].digits) == digits]
            rows += [own[(5 * k + 2) * len(own) // 9] for k in range(count // 2)]
    return rows
