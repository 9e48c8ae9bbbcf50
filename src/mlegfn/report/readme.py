"""What README and docs show of the results, copied from what was computed: `python -m mlegfn.report.readme`."""

import re
import sys
from pathlib import Path

from mlegfn import config
from mlegfn.artifacts import write_text
from mlegfn.report import families
from mlegfn.report.gallery import page

OBJECTIVES = "results/divergences/report/divergences-objectives.md"


def updated(document, **tables):
    """``document`` with each of ``tables`` between its two markers, ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``."""
    for name, table in tables.items():
        marked = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        if not marked.search(document):
            raise ValueError(f"lost: the markers <!-- {name}:begin --> and <!-- {name}:end -->")
        document = marked.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", document)
    return document


def documents(root="."):
    """``{path: {name: what stands between its markers}}`` of every document with computed parts."""
    return {
        "README.md": tables(root),
        "docs/objectives.md": {"objectives": objectives(root)},
        "docs/gallery.md": {"stations": page.sections(root)},
    }


def tables(root="."):
    """What README shows of the scale `digits`: the verdicts, and a row a family."""
    verdict = Path(root, "results/digits/report/verdict.md").read_text()
    settings = config.load(Path(root, "params.yaml")).scale("digits").families
    found = families.read("digits", settings, Path(root, "results"))
    return {"verdict": verdict.split("<details>")[0].strip(), "families": families.summary_markdown(found)}


def objectives(root="."):
    """The ranking of the scale `divergences` with its figures, its links as seen from docs; where the scale has no
    results, that it has none."""
    path = Path(root, OBJECTIVES)
    if not path.is_file():
        return "*Not measured yet: the scale `divergences` has no results here.*"
    return path.read_text().strip().replace("](../", f"]({Path('..', OBJECTIVES).parents[1]}/")


def main(root="."):
    """Rewrite every document; with ``--check``, exit 1 if one is out of date."""
    old = {path: Path(root, path).read_text() for path in documents(root)}
    new = {path: updated(old[path], **parts) for path, parts in documents(root).items()}
    if "--check" in sys.argv:
        sys.exit(new != old)
    for path, text in new.items():
        write_text(Path(root, path), text)


if __name__ == "__main__":
    main()
