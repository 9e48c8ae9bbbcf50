"""Packages in which a file is a registration, such as the model families. Imports none of the files, nor torch."""

import importlib
import pkgutil
from collections.abc import Collection, Iterable

__all__ = ["load", "names"]


def names(path: Iterable[str]) -> list[str]:
    """The names of a package's modules, sorted; packages inside it are not among them.

    path: the package's ``__path__``
    """
    return sorted(module.name for module in pkgutil.iter_modules(path) if not module.ispkg)


def load(package: str, name: str, base: type, known: Collection[str]) -> type:
    """The one class that extends ``base`` and is defined in the module ``name`` of ``package``.

    package: the package's name; base: a class; known: the names that there are
    :raises ValueError: for a name that is not among ``known``, or a module that defines no such class or several
    """
    kind = base.__name__
    if name not in known:
        raise ValueError(f"unknown {kind.lower()} {name!r}; there are {', '.join(known)}")
    module = importlib.import_module(f"{package}.{name}")
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        folder = package.rpartition(".")[2]
        raise ValueError(f"{folder}/{name}.py must define exactly one {kind}, it defines {len(classes)}")
    return classes[0]
