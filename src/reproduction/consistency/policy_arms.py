"""The arms of the part *which policy*: P_B's on bit strings, and what trains them."""

from typing import NamedTuple

__all__ = ["ARMS", "REFERENCE", "Arm"]


class Arm(NamedTuple):
    """One P_B and its training. P_F is trained by the bound in all of them.

    ``backward``: ``uniform``; ``network``, of the state; ``entries``, one logit each; ``ordered``, fixed.
    ``loss`` of P_B: ``score``, the bound's score function; ``tbc``; None where nothing of it is trained.
    ``average``: whether P_F's loss is averaged over which entry was filled, which needs a uniform P_B.
    ``soft``: whether the logits start from a soft order of significance, and not from zero.
    """

    backward: str
    loss: str | None = None
    average: bool = False
    soft: bool = False

    @property
    def learned(self):
        return self.loss is not None


ARMS = {
    "uniform": Arm("uniform", average=True),
    "uniform_single": Arm("uniform"),
    "score": Arm("network", "score"),
    "tbc": Arm("network", "tbc"),
    "free_uniform": Arm("entries", "tbc"),
    "free_ordered": Arm("entries", "tbc", soft=True),
    "ordered": Arm("ordered"),
}
REFERENCE = "uniform_single"  # the loss of P_F that a learned P_B has to use, without a learned P_B
