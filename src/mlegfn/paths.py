"""Where artifacts lie. Relative to the repository's root, from which every stage runs."""

from pathlib import Path

from mlegfn.errors import UserError


def expanded(path):
    """``path`` with a leading ``~`` or ``~user`` replaced by that home; an unknown user's is a UserError."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: nobody here has that home; give the whole path") from None


def data(scale):
    """Folder of a scale's images."""
    return Path("data") / scale


def results(scale, *parts):
    """A path below results/<scale>."""
    return Path("results", scale, *map(str, parts))


def pretrained(scale, step):
    """The baseline's checkpoint at ``step``."""
    return results(scale, "checkpoints", f"pretrain-{step}")


def finetuned(scale, step, arm, seed):
    """The folder of a fine-tune; its evaluation points lie in step-<n>."""
    return results(scale, "checkpoints", f"finetune-{step}-{arm}-{seed}")
