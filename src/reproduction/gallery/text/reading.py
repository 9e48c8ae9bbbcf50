"""What a station on text starts from: the captions as tokens, their split, and the frozen encoders of ``clip``."""

from dataclasses import dataclass

import torch

from reproduction.gallery.fitting import with_weights
from reproduction.gallery.text.captions import held_out, scenes
from reproduction.gallery.text.encoders import Clip
from reproduction.gallery.text.words import Tokenizer

__all__ = ["Captions", "Frozen", "captions", "frozen"]


@dataclass(frozen=True)
class Captions:
    """All captions: tokens int64 [C, L], mask bool [C, L]; the rows of ``seen`` ones and of those held out."""

    tokens: torch.Tensor
    mask: torch.Tensor
    seen: torch.Tensor
    held_out: torch.Tensor
    words: int


def captions(settings):
    """``Captions`` of the block of ``clip``."""
    tokenizer = Tokenizer(settings.length)
    tokens, mask = tokenizer.encode([scene.caption for scene in scenes()])
    out = held_out(settings.held_out, settings.split_seed)
    return Captions(tokens, mask, (~out).nonzero().squeeze(1), out.nonzero().squeeze(1), len(tokenizer))


@dataclass(frozen=True)
class Frozen:
    """``clip`` without gradients, and what it says of each caption; row C is the caption without words.

    states [C+1, L, width] with mask bool [C+1, L]; embedding [C+1, E] of length 1.
    """

    clip: Clip
    captions: Captions
    states: torch.Tensor
    mask: torch.Tensor
    embedding: torch.Tensor

    @property
    def nothing(self):
        """The row of the caption without words."""
        return len(self.states) - 1


@torch.no_grad()
def frozen(inputs):
    """``Frozen`` of the station ``clip`` that ``inputs`` can read."""
    settings = inputs.settings("clip")
    texts = captions(settings)
    clip = with_weights(Clip(texts.words, settings), inputs.tensors("clip"), "clip")
    tokens, mask = Tokenizer(settings.length).encode([*(scene.caption for scene in scenes()), ""])
    states, _ = clip.text(tokens, mask)
    return Frozen(clip, texts, states, mask, clip.text_embedding(tokens, mask))
