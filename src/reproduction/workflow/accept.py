"""`mlegfn accept`: an edit of source code that changes no result, such as of a comment, recorded without running anything."""

import json

from mlegfn.artifacts import write_json
from mlegfn.errors import UserError
from reproduction import params as settings
from reproduction.stage import Stage
from reproduction.workflow import dvc
from reproduction.workflow.run_lock import only_one

__all__ = ["accept"]


def accept(stages):
    """Let the finished parts of the stages pass as made by the present source code, then `dvc commit`; returns 0.

    Whoever calls it says that the edit changes no result: nothing is compared.
    """
    with only_one("accept"):
        params, definitions = settings.load(), dvc.definitions()
        for name in stages:
            base, _, rest = name.partition("@")
            scale, _, item = rest.partition("-")
            if base not in definitions or not scale:
                raise UserError(f"{name}: no stage of dvc.yaml; `mlegfn status` lists the stages")
            stage = Stage(definitions[base]["cmd"].split()[2], scale, item or None, params)
            parts = {part: {**record, "code": stage.code_hash} for part, record in stage.read_parts().items()}
            if json.dumps(parts) != json.dumps(stage.read_parts()):
                write_json(stage.parts_file, parts)
        dvc.run_dvc("commit", "--force", *stages)
    print(f"recorded as made by the present source code: {', '.join(stages)}")
    return 0
