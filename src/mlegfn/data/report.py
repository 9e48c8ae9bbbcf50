"""What was done to a user's files without refusing them: counted, one line for each kind."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlegfn.data.names import folded, leftover, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlegfn.data.pictures import Picture

__all__ = ["Report"]

NAMED = 8  # kinds that a line names


@dataclass
class Report:
    """``ignored``: {what: files of it that were not read}; ``turned``: images that are stored turned or mirrored and
    shown upright; ``profiles``: {colour space: images that name it, sRGB excepted}; ``alike``: groups of classes whose
    names are easily mistaken for each other."""

    ignored: Counter[str] = field(default_factory=Counter)
    turned: int = 0
    profiles: Counter[str] = field(default_factory=Counter)
    alike: list[list[str]] = field(default_factory=list)

    def ignore(self, name: str) -> None:
        """Count a file, by its path, that is not read."""
        self.ignored[leftover(name) or name.rpartition("/")[2]] += 1

    def add(self, picture: Picture) -> None:
        """Count an image that is read."""
        self.turned += picture.turned
        if picture.profile is not None:
            self.profiles[picture.profile] += 1

    def compare(self, classes: Iterable[str]) -> None:
        """Look for classes that a reader would take for one."""
        groups = defaultdict(list)
        for name in sorted(classes):
            groups[folded(name)].append(name)
        self.alike = [group for group in groups.values() if len(group) > 1]

    def lines(self) -> Iterator[str]:
        """A line for each kind that there is anything of."""
        if self.ignored:
            yield f"{_counted(self.ignored.total(), 'file')} ignored: {_listed(self.ignored)}"
        if self.turned:
            yield f"{_counted(self.turned, 'image')} turned upright, as the orientation in the file says"
        if self.profiles:
            count = _counted(self.profiles.total(), "image")
            yield f"{count} in a colour profile other than sRGB, read without converting it: {_listed(self.profiles)}"
        for group in self.alike[:NAMED]:
            yield f"classes whose names look alike, counted as {len(group)}: {', '.join(map(ascii, group))}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _listed(counts: Mapping[str, int]) -> str:
    """The names in order, with the counts that are not 1; the first ``NAMED``."""
    names = [
        printable(name) + (f" ({count})" if count > 1 else "")
        for name, count in sorted(counts.items(), key=lambda item: (item[0].casefold(), item[0]))
    ]
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join(names[:NAMED] + more)
