"""DDPM's exponential moving average of the weights."""

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["Ema"]


class Ema:
    """shadow ← decay · shadow + (1 − decay) · weights after each step; the first step is a plain copy.

    The same numbers, bit for bit, as diffusers' EMAModel(decay=d, min_decay=d, foreach=True), whose import
    takes seconds (tests/mlegfn/training/test_ema.py compares them).
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self.decay, self.optimization_step = decay, 0
        self.shadow_params = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def step(self, parameters: Iterable[Tensor]) -> None:
        """Take in the weights after an optimiser step."""
        self.optimization_step += 1
        new = 1.0 if self.optimization_step == 1 else 1 - self.decay
        difference = torch._foreach_sub(self.shadow_params, list(parameters))
        torch._foreach_sub_(self.shadow_params, difference, alpha=new)
