"""What a stage left for the report: metrics and arrays, or a UserError that names the stage that makes them."""

from mlegfn.artifacts import read_json
from mlegfn.errors import UserError

__all__ = ["arrays", "contents"]


def contents(path, stage, *keys):
    """The mapping in a JSON file, which must have ``keys``; a missing or misfitting one is a UserError."""
    if not path.is_file():
        raise UserError(f"{path}: not found; the stage {stage} makes it: run `dvc repro {stage}`")
    value = read_json(path)
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise UserError(f"{path}: has no {key!r}; delete it and run `dvc repro {stage}`")
    return value


def arrays(path, keys, stage):
    """The arrays of a safetensors file; a missing or broken one is a UserError naming the stage that makes it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise UserError(f"{path}: not found; the stage {stage} makes it: run `dvc repro {stage}`")
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a whole safetensors file ({reason}); delete it and run `dvc repro {stage}`"
        ) from None
    if absent := [key for key in keys if key not in tensors]:
        raise UserError(f"{path}: has no array {absent[0]!r}; delete it and run `dvc repro {stage}`")
    return tensors
