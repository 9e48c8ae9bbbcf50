"""Denoising models in Diffusers' folders, whoever trained them: find, read, write."""

from mlegfn.checkpoints.reader import External, read
from mlegfn.checkpoints.writer import write

__all__ = ["External", "read", "write"]
