"""README's verdict table, copied from the verdicts that were computed: `python -m mlegfn.report.readme`."""

import re
import sys
from pathlib import Path

from mlegfn.artifacts import write_text

MARKED = re.compile(r"(<!-- verdict:begin -->\n).*?(<!-- verdict:end -->)", re.DOTALL)


def updated(readme, verdict):
    """``readme`` with the table of ``verdict`` (verdict.md's text) between its two markers."""
    table = verdict.split("<details>")[0].strip()
    if not MARKED.search(readme):
        raise ValueError("README.md has lost its markers <!-- verdict:begin --> and <!-- verdict:end -->")
    return MARKED.sub(lambda match: f"{match[1]}{table}\n{match[2]}", readme)


def main(root="."):
    """Rewrite README.md; with ``--check``, exit 1 if it is out of date."""
    readme = Path(root, "README.md")
    text = updated(readme.read_text(), Path(root, "results/digits/report/verdict.md").read_text())
    if "--check" in sys.argv:
        sys.exit(text != readme.read_text())
    write_text(readme, text)


if __name__ == "__main__":
    main()
