"""Every generative model family of the paper as a pair (P_F, P_B), one file each.

A file in this folder that defines a :class:`~mlegfn.families.family.Family` *is* its registration: the stages,
Table 1, the figure, the documentation and the property tests go over :func:`names`. Nothing else lists them.
"""

import re
from pathlib import Path

from mlegfn import registry

__all__ = ["load", "names", "sources"]

# What families share; names starting with an underscore are skipped too.
SHARED = {"comparing", "family", "fitting"}


def names():
    """The families' names, sorted: those of their files. Imports none of them, nor torch."""
    return registry.names(__path__, SHARED)


def sources(name):
    """(what it shares with others, the family that it extends): paths from the repository's root, or None each.

    From the text of its file, for the pipeline's dependencies: what families share lies in one module or package
    here whose name starts with an underscore, and a family uses at most one of them and one other family.
    """
    text = (Path(__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
    found = re.findall(r"^\s*from mlegfn\.families(?:\.| import )(\w+)", text, re.MULTILINE)
    shared = sorted({each for each in found if each.startswith("_")})
    extended = sorted(set(found) & set(names()))
    if len(shared) > 1 or len(extended) > 1:
        raise ValueError(
            f"families/{name}.py imports {', '.join(shared + extended)}: at most one of each kind"
        )
    paths = [f"src/mlegfn/families/{each}" for each in shared]
    paths = [
        path if (Path(__path__[0]) / each).is_dir() else f"{path}.py" for path, each in zip(paths, shared)
    ]
    bases = [f"src/mlegfn/families/{each}.py" for each in extended]
    return next(iter(paths), None), next(iter(bases), None)


def load(name):
    """The ``Family`` class of file ``name``.py.

    :raises ValueError: for a name that is no file here, or a file that defines no family or several
    """
    return registry.load(__name__, name, "Family", names())
