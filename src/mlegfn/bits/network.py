"""The policies' networks: partial bit strings in, logits out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlegfn.networks.mlp import plane_waves

__all__ = ["FULL_DIGITS", "REACH", "BitNetwork", "signs"]

FULL_DIGITS = 6  # the sixth digit's cells are about 0.1 wide, as the planar problems' details
REACH = 3.0  # what the largest magnitude is to the network: the data then have about unit variance, as the waves want


def signs(x: Tensor) -> Tensor:
    """Entries −1 (empty), 0, 1 → 0, −1, +1 as float32: what the networks read."""
    return torch.where(x < 0, 0, 2 * x - 1).float()


class BitNetwork(nn.Module):
    """Partial strings [N, D] → [N, outputs, D]: a residual perceptron, zero before training.

        h_0 = ReLU(W [s, |s|, p, z, sin Kz, cos Kz]),   h_l = h_{l−1} + ReLU(W_l h_{l−1}),   out = W h_L

    s are the entries as ±1, 0 where empty. With ``decoded``, the network also knows that they are a point of the plane.
    z is the middle of the cell that the filled digits leave, 0…±REACH, and K are fixed plane waves: the odds of the next
    digit are a smooth function of where one is, and of how far down, which the perceptron has from |s|. And it reads and
    speaks plain binary: p are the plain digits of each coordinate, ±1 as far down as its Gray digits are filled without a gap and 0 from
    there on; and the *last* output is a_i − p_{i−1}·b_i, for a Gray digit is its plain digit XOR the one above, so
    that b_i is the log odds of the plain digit. A smooth density has log odds that vary smoothly in plain digits and
    change their sign from cell to cell in Gray ones. They halve with every digit, too, once the cells are narrower than
    its details: so the last output is scaled by 2^−(j − FULL_DIGITS) at the j-th digit from FULL_DIGITS on.

    :param coordinates: 2, of D/2 entries each: a sign followed by Gray digits. ``decoded`` is for the plane only
    """

    scale: Tensor
    waves: Tensor
    weight: Tensor

    def __init__(
        self,
        length: int,
        hidden: int,
        layers: int,
        outputs: int,
        coordinates: int = 2,
        decoded: bool = True,
    ) -> None:
        super().__init__()
        self.length, self.outputs, self.coordinates, self.decoded = length, outputs, coordinates, decoded
        if decoded and coordinates != 2:
            raise ValueError(f"a decoded network is for two coordinates, not {coordinates}")
        waves = plane_waves() if decoded else torch.zeros(2, 0)
        inputs = 2 * length + decoded * (length - coordinates + 2 + 2 * waves.shape[1])
        self.entry = nn.Linear(inputs, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 1))
        self.exit = nn.Linear(hidden, (outputs + decoded) * length)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)
        digit = torch.arange(length // coordinates).repeat(coordinates)
        self.register_buffer("scale", 2.0 ** -(digit - FULL_DIGITS).clamp(min=0), persistent=False)
        self.register_buffer("waves", waves, persistent=False)
        self.register_buffer("weight", 2.0 ** -torch.arange(1.0, length // coordinates), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        s = signs(x).to(self.entry.weight.dtype)
        features = [s, s.abs()]
        if self.decoded:
            # A parity is a product of signs: with s = −1 for 0, −Π(−s) is +1 for odd, −1 for even, 0 after a gap.
            plain = -(-s.view(len(s), self.coordinates, -1)[:, :, 1:]).cumprod(2)
            angle = (z := self._middle(s, plain)) @ self.waves.to(z.dtype)
            features += [plain.flatten(1), z, angle.sin(), angle.cos()]
        h = F.relu(self.entry(torch.cat(features, 1)))
        for layer in self.layers:
            h = h + F.relu(layer(h))
        out: Tensor = self.exit(h).view(len(s), -1, self.length)
        if not self.decoded:
            return out
        # The sign is no digit, and above the first digit stands a 0.
        first = torch.ones_like(plain[:, :, :1])
        above = torch.cat([0 * first, -first, plain[:, :, :-1]], 2).flatten(1)
        last = self.scale * (out[:, -2] - above * out[:, -1])
        return torch.cat([out[:, :-2], last[:, None]], 1)

    def _middle(self, s: Tensor, plain: Tensor) -> Tensor:
        """[N, 2]: the middle of the cell, from plain digits [N, 2, D/2 − 1] as ±1 and 0; positive without a sign."""
        size = (1 + (plain * self.weight.to(s.dtype)).sum(2)) / 2
        sign = s.view(len(s), 2, -1)[:, :, 0]
        return REACH * torch.where(sign == 0, 1, -sign) * size  # a sign's bit is 1 below zero
