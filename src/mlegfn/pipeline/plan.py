"""A scale's stages as a shell script, for a machine that has neither DVC nor Snakemake."""

from mlegfn import graph
from mlegfn.pipeline import engine

HEAD = """\
#!/bin/sh
# Scale {scale}: {count} stages in an order that works. Needs Python with this package's libraries (torch,
# diffusers, pydantic, ruamel.yaml, …), not DVC, not Snakemake. Run it from the repository's root.
# Afterwards `dvc commit` records the results, on a machine that has DVC.
set -eu
export OMP_NUM_THREADS=1
command -v mlegfn >/dev/null || mlegfn() {{ PYTHONPATH=src python3 -m mlegfn "$@"; }}
"""


def script(scale):
    """The script; stages stand after those that they read."""
    graph.checked(scale)
    pipeline = engine.read(scale)
    order = pipeline.order()
    lines = [
        f"\necho '[{i}/{len(order)}] {name}' >&2\n{pipeline.stages[name].cmd}\n"
        for i, name in enumerate(order, start=1)
    ]
    return HEAD.format(scale=scale, count=len(order)) + "".join(lines)


def show(scale_name):
    """Print ``script``."""
    print(script(scale_name), end="")
