"""The arms of the part *signed λ*: losses of log w that start from one optimum of the bound."""

from typing import NamedTuple

__all__ = ["REFERENCE", "Arm", "arms_of"]


class Arm(NamedTuple):
    """One loss. ``kind`` is ``bound`` (− mean log w + λ · Var[log w], ``value`` is λ) or ``iwae`` (K, ``value``)."""

    name: str
    kind: str
    value: float

    @property
    def sign(self):
        """λ to which the arm is equal to second order: IWAE-K descends like λ = −(1 − 1/K)/2."""
        return self.value if self.kind == "bound" else -(1 - 1 / self.value) / 2


def bound(weight):
    """The ``Arm`` of λ = ``weight``: ``bound-0.2``, ``bound+0``, ``bound+0.02``."""
    return Arm(f"bound{weight + 0.0:+g}", "bound", weight)


REFERENCE = bound(0.0)


def arms_of(settings):
    """The ``Arm`` of every weight and every group of ``settings``, by name."""
    arms = [bound(weight) for weight in settings.weights]
    arms += [Arm(f"iwae{size}", "iwae", size) for size in settings.groups]
    return {arm.name: arm for arm in arms}
