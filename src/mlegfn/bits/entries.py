"""A backward policy that does not look at the state: one logit an entry."""

import torch
from torch import Tensor, nn

__all__ = ["EntryLogits", "soft_order"]


class EntryLogits(nn.Module):
    """P_B of :class:`mlegfn.bits.filling.BitFilling` with D parameters r: of the filled entries, softmax(r) is emptied.

    The orders that it makes have the law of Plackett and Luce: of all entries e^r_i says which is emptied first, of
    those that are left which is next. With r = 0 all orders are equally likely. An order is drawn in one piece: with
    E_i exponential of mean 1, the entries sorted by E_i/e^r_i.

    :param logits: [D], to start from
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, x: Tensor) -> Tensor:
        """x [N, D] → [N, 1, D], whatever x is."""
        return self.logits.expand(len(x), 1, -1)

    @torch.no_grad()
    def orders(self, count: int, generator: torch.Generator) -> Tensor:
        """int64 [count, D]: for each entry the step 1…D at which it is emptied. The noise does not depend on r, so
        that policies with nearly equal r draw nearly equal orders of equal generators."""
        uniform = torch.rand(count, len(self.logits), generator=generator).double()
        turn = (-torch.log1p(-uniform)).log() - self.logits.double()
        return turn.argsort(1).argsort(1) + 1


def soft_order(steps: Tensor, sharpness: float) -> Tensor:
    """[D] logits that prefer to empty entry i at ``steps`` [D] (1…D): of two neighbours in that order, the earlier one
    is e^sharpness times as likely to be emptied first."""
    return sharpness * ((len(steps) + 1) / 2 - steps.float())
