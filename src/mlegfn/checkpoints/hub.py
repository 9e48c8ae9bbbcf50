"""Checkpoints of the Hugging Face hub: what is on this machine first, then a download."""

import re
from pathlib import Path
from typing import TypedDict

from mlegfn.errors import UserError

__all__ = ["fetch", "is_hub_id"]

SECONDS = 5  # that the hub gets to answer the first question
WANTED = ["*.json", "*.safetensors"]
UNWANTED = ["*.fp16.*", "*.non_ema.*", "training_state.safetensors", "*/checkpoint-*"]


class Patterns(TypedDict):
    """Which files of a repository are fetched."""

    allow_patterns: list[str]
    ignore_patterns: list[str]


def is_hub_id(text: str) -> bool:
    """Whether ``text`` looks like owner/name rather than like a path: no folder ``owner`` stands here."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text)) and not Path(text).parent.exists()


def fetch(name: str) -> Path:
    """The local folder of hub repository ``owner/name``; safetensors and configurations only.

    :raises UserError: within seconds if the hub cannot be reached, or has no such repository for us
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    patterns: Patterns = {"allow_patterns": WANTED, "ignore_patterns": UNWANTED}
    try:
        folder = Path(snapshot_download(name, local_files_only=True, **patterns))
        if any(folder.rglob("diffusion_pytorch_model*.safetensors")):
            return folder
    except Exception:  # not here, or only in parts: anything but a folder means that it is to be fetched
        pass
    help = "give a folder on this machine, or fetch it where there is a network (`hf download`)"
    try:
        # Asked first and on its own: snapshot_download tries again for minutes where nothing answers.
        revision = HfApi().model_info(name, timeout=SECONDS).sha
        return Path(snapshot_download(name, revision=revision, **patterns))
    except GatedRepoError:
        raise UserError(
            f"{name}: on the hub, but only for who was admitted; ask there, then `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{name}: neither a folder here nor a public repository of the hub; check the spelling"
        ) from None
    except OfflineModeIsEnabled:
        raise UserError(
            f"{name}: no folder here, not in the hub's cache, and HF_HUB_OFFLINE is set; {help}"
        ) from None
    except Exception as error:  # of five libraries below us: connection, TLS, proxy, disk, a hub that is down
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"{name}: no folder here, not in the hub's cache, and the hub did not give it ({reason}); {help}"
        ) from None
