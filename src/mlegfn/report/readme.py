"""README's tables, copied from what was computed: `python -m mlegfn.report.readme`."""

import re
import sys
from pathlib import Path

from mlegfn import config
from mlegfn.artifacts import write_text
from mlegfn.report import families


def updated(readme, **tables):
    """``readme`` with each of ``tables`` between its two markers, ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``."""
    for name, table in tables.items():
        marked = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        if not marked.search(readme):
            raise ValueError(f"README.md has lost its markers <!-- {name}:begin --> and <!-- {name}:end -->")
        readme = marked.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", readme)
    return readme


def tables(root="."):
    """What README shows of the scale `digits`: the verdicts, and a row a family."""
    verdict = Path(root, "results/digits/report/verdict.md").read_text()
    settings = config.load(Path(root, "params.yaml")).scale("digits").families
    found = families.read("digits", settings, Path(root, "results"))
    return {"verdict": verdict.split("<details>")[0].strip(), "families": families.summary_markdown(found)}


def main(root="."):
    """Rewrite README.md; with ``--check``, exit 1 if it is out of date."""
    readme = Path(root, "README.md")
    text = updated(readme.read_text(), **tables(root))
    if "--check" in sys.argv:
        sys.exit(text != readme.read_text())
    write_text(readme, text)


if __name__ == "__main__":
    main()
