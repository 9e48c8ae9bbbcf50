"""Every generative model family of the paper as a pair (P_F, P_B), one file each.

A file in this folder that defines a :class:`~mlegfn.families.family.Family` *is* its registration: the stages,
Table 1, the figure, the documentation and the property tests go over :func:`names`. Nothing else lists them.
"""

import importlib
import pkgutil

__all__ = ["load", "names"]

# What families share; names starting with an underscore are skipped too.
SHARED = {"family", "fitting"}


def names():
    """The families' names, sorted: those of their files. Imports none of them, nor torch."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    return sorted(name for name in found - SHARED if not name.startswith("_"))


def load(name):
    """The ``Family`` class of file ``name``.py.

    :raises ValueError: for a name that is no file here, or a file that defines no family or several
    """
    if name not in names():
        raise ValueError(f"unknown family {name!r}; there are {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    family = importlib.import_module(f"{__name__}.family").Family
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, family) and each.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ValueError(f"families/{name}.py must define exactly one Family, it defines {len(found)}")
    return found[0]
