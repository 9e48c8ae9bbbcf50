"""Arrays that a stage left for the report."""

from mlegfn.errors import UserError


def arrays(path, keys, stage):
    """The arrays of a safetensors file; a missing or broken one is a UserError naming the stage that makes it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise UserError(f"{path}: not found; the stage {stage} makes it: run `dvc repro {stage}`")
    try:
        found = load_file(path)
    except (SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a whole safetensors file ({reason}); delete it and run `dvc repro {stage}`"
        ) from None
    if absent := [key for key in keys if key not in found]:
        raise UserError(f"{path}: has no array {absent[0]!r}; delete it and run `dvc repro {stage}`")
    return found
