"""The stages of a scale in this one process, as `mlegfn stage` runs each, then recorded by `dvc commit`.

    python -m helpers.one_process smoke [STAGE …]      # default: those that are stale

What `mlegfn reproduce` makes with a process for each stage and for DVC, in a quarter of the time: Python starts once.
"""

import contextlib
import io
import sys

from reproduction.site import summary
from reproduction.workflow import dvc, stage


def main(scale, *stages):
    stages, definitions = stages or dvc.make_plan(scale).stale, dvc.definitions()
    for name in stages:
        base, _, rest = name.partition("@")
        module, item = definitions[base]["cmd"].split()[2], rest.partition("-")[2] or None
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = stage.run(module, scale, item)
        if code:
            sys.exit(f"{name}: exit code {code}\n{said.getvalue()[-3000:]}")
    summary.write()
    dvc.run_dvc("commit", "--force", *stages)


if __name__ == "__main__":
    main(*sys.argv[1:])
