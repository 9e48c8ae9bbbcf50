"""Two small encoders into one space: a transformer for captions, convolutions for scenes."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from reproduction.gallery.text.painting import HIGH

__all__ = ["Clip", "ImageEncoder", "TextEncoder"]


class TextEncoder(nn.Module):
    """(tokens int64 [N, L], mask bool [N, L]) → (a state for each token [N, L, width], the caption's embedding [N, E]).

    The embedding is a linear map of the first token's state, which sees all words. (CLIP's encoder is causal and reads
    the last token's.) No state depends on what stands where the mask is False, nor on how much of it there is.
    """

    def __init__(self, tokens, length, width, heads, layers, embedding):
        super().__init__()
        self.word = nn.Embedding(tokens, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.exit = nn.Linear(width, embedding, bias=False)

    def forward(self, tokens, mask):
        states = self.word(tokens) + self.position[: tokens.shape[1]]
        states = self.transformer(states, src_key_padding_mask=~mask)
        return states, self.exit(states[:, 0])


class ImageEncoder(nn.Module):
    """Scenes [N, 1, 32, 32] in [−1, 1] → embeddings [N, E]: convolutions that halve the side, then one linear map of
    what is left, so that places are not averaged away."""

    def __init__(self, channels, embedding):
        super().__init__()
        layers, before = [], 1
        for after in channels:
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
            before = after
        self.layers = nn.Sequential(*layers)
        self.exit = nn.Linear(before * (HIGH // 2 ** len(channels)) ** 2, embedding)

    def forward(self, scene):
        return self.exit(self.layers(scene).flatten(1))


class Clip(nn.Module):
    """Both encoders and the temperature (Radford et al. 2021, arXiv 2103.00020, §2)."""

    def __init__(self, tokens, settings):
        super().__init__()
        self.text = TextEncoder(
            tokens, settings.length, settings.width, settings.heads, settings.layers, settings.embedding
        )
        self.image = ImageEncoder(settings.channels, settings.embedding)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(settings.temperature)))

    def text_embedding(self, tokens, mask):
        """[N, E], of length 1."""
        return F.normalize(self.text(tokens, mask)[1], dim=1)

    def image_embedding(self, scene):
        """[N, E], of length 1."""
        return F.normalize(self.image(scene), dim=1)

    def forward(self, tokens, mask, scene):
        """[N, N] logits: cosines of each scene (a row) with each caption (a column) over the temperature, at least 1/100."""
        scale = self.log_scale.clamp(max=math.log(100)).exp()
        return scale * self.image_embedding(scene) @ self.text_embedding(tokens, mask).T
