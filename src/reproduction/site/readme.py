"""Documents quote results only between markers, and this writes what stands there: `python -m reproduction.site.readme`.

Two HTML comments enclose a quotation, in a line or around lines: ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``. NAME
is one of :data:`reproduction.site.quotations.QUOTATIONS`. With ``--check`` nothing is written, and the exit code is 1
where a document is out of date.
"""

import re
import sys
from pathlib import Path

from mlegfn.artifacts import write_text
from mlegfn.errors import UserError
from reproduction.site.quotations import QUOTATIONS

__all__ = ["DOCUMENTS", "main", "outdated", "updated"]

DOCUMENTS = ("README.md", "docs/objectives.md", "docs/gallery.md", "docs/consistency.md")
MARKED = re.compile(r"(<!-- ([\w-]+):begin -->)(\s*).*?(\s*)(<!-- \2:end -->)", re.DOTALL)
MARKER = re.compile(r"<!-- ([\w-]+):(?:begin|end) -->")


def updated(document, root="."):
    """The text ``document`` with every quotation as the results under ``root`` are now.

    :raises UserError: for a marker that has no partner, or whose name is none of QUOTATIONS
    """

    def quote(match):
        begin, name, before, after, end = match.groups()
        if name not in QUOTATIONS:
            raise UserError(f"<!-- {name}:begin -->: no such quotation; there are {', '.join(QUOTATIONS)}")
        return f"{begin}{before}{QUOTATIONS[name](Path(root))}{after or before}{end}"

    if alone := MARKER.search(MARKED.sub("", document)):
        raise UserError(f"{alone[0]}: has no partner; quotations are enclosed by a begin and an end")
    return MARKED.sub(quote, document)


def outdated(root="."):
    """{path: new text} of the documents that are out of date."""
    old = {path: Path(root, path).read_text(encoding="utf-8") for path in DOCUMENTS}
    new = {path: updated(text, root) for path, text in old.items()}
    return {path: new[path] for path in DOCUMENTS if new[path] != old[path]}


def main(root="."):
    """Rewrite the documents that are out of date, or with ``--check`` exit with 1 if there are any."""
    texts = outdated(root)
    if "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(texts)}; run `python -m reproduction.site.readme`" if texts else 0)
    for path, text in texts.items():
        write_text(Path(root, path), text)


if __name__ == "__main__":
    main()
