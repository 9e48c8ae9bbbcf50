"""Every generative model family of the paper as a pair (P_F, P_B), one file each.

A file in this folder that defines a :class:`~mlegfn.families.shared.family.Family` *is* its registration: params.yaml
names the families that a scale runs by their files, and the documentation and the property tests go over
:func:`names`. What families share lies in :mod:`mlegfn.families.shared`; no family imports another one.
"""

from typing import TYPE_CHECKING

from mlegfn import registry

if TYPE_CHECKING:
    from mlegfn.families.shared.family import Family

__all__ = ["load", "names"]


def names() -> list[str]:
    """The families' names, sorted: those of their files. Imports none of them, nor torch."""
    return registry.names(__path__)


def load(name: str) -> "type[Family]":
    """The ``Family`` class of file ``name``.py.

    :raises ValueError: for a name that is no file here, or a file that defines no family or several
    """
    from mlegfn.families.shared.family import Family

    return registry.load(__name__, name, Family, names())
