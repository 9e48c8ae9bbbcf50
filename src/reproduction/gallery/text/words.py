"""Captions as numbers: a closed vocabulary, padding to a fixed length, and the mask that says what is padding."""

import difflib

import torch

from reproduction.gallery.text.captions import scenes

__all__ = ["PADDING", "START", "Tokenizer"]

PADDING, START = 0, 1  # the rest are words


class Tokenizer:
    """Captions ↔ tokens of the words that :mod:`captions <reproduction.gallery.text.captions>` uses.

    length: of every row of tokens; a caption of w words fills w + 1 of it, the first with START.
    """

    def __init__(self, length):
        self.words = sorted({word for scene in scenes() for word in scene.caption.split()})
        self.numbers = {word: number for number, word in enumerate(self.words, START + 1)}
        self.length = length

    def __len__(self):
        """How many different tokens there are."""
        return len(self.words) + START + 1

    def encode(self, captions):
        """(tokens int64 [N, length], mask bool [N, length]: True where a token is no padding).

        "" is a caption without words: START alone, the condition of a model that is not told anything.

        :raises ValueError: for an unknown word (naming it and the nearest known ones), a caption that is too long,
            something that is no text, and no captions at all
        """
        if isinstance(captions, str) or len(captions) == 0:
            raise ValueError(f"expected a list of at least one caption, got {captions!r}")
        rows = [[START, *map(self._number, self._split(caption))] for caption in captions]
        for caption, row in zip(captions, rows, strict=True):
            if len(row) > self.length:
                raise ValueError(f"{caption!r} has {len(row) - 1} words, there is room for {self.length - 1}")
        tokens = torch.tensor([row + [PADDING] * (self.length - len(row)) for row in rows])
        return tokens, tokens != PADDING

    def decode(self, tokens):
        """The caption of one row of tokens."""
        return " ".join(self.words[token - START - 1] for token in tokens.tolist() if token > START)

    @staticmethod
    def _split(caption):
        if not isinstance(caption, str):
            raise ValueError(f"a caption is text, not {caption!r}")
        return caption.lower().split()

    def _number(self, word):
        if word not in self.numbers:
            near = difflib.get_close_matches(word, self.words, n=3, cutoff=0)
            raise ValueError(f"unknown word {word!r}; the nearest known ones are {', '.join(near)}")
        return self.numbers[word]
