"""Folders in which a file is a registration: families and stations. Imports none of the files, nor torch."""

import importlib
import pkgutil

__all__ = ["load", "names"]


def names(path, shared):
    """The names of a package's files, sorted, but for those in ``shared`` and those that begin with an underscore.

    path: the package's ``__path__``
    """
    found = {module.name for module in pkgutil.iter_modules(path)}
    return sorted(name for name in found - shared if not name.startswith("_"))


def load(package, name, kind, known):
    """The one class of file ``name``.py of ``package`` that extends the class ``kind``, defined in the file of its name.

    :raises ValueError: for a name that is not among ``known``, or a file that defines no such class or several
    """
    folder, word = package.rpartition(".")[2], kind.lower()
    if name not in known:
        raise ValueError(f"unknown {word} {name!r}; there are {', '.join(known)}")
    module = importlib.import_module(f"{package}.{name}")
    base = getattr(importlib.import_module(f"{package}.{word}"), kind)
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, base) and each.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ValueError(f"{folder}/{name}.py must define exactly one {kind}, it defines {len(found)}")
    return found[0]
