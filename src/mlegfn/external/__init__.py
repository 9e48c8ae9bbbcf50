"""Denoising models in Diffusers' folders, whoever trained them: find, read, write."""

from mlegfn.external.reader import External, read
from mlegfn.external.writer import write

__all__ = ["External", "read", "write"]
