"""Which numbers states may be made of."""

from __future__ import annotations

import torch

__all__ = ["check_precision"]


def check_precision(x: torch.Tensor, name: str) -> None:
    """Refuse states ``x`` that are neither float32 nor float64, with a ValueError that says what they are.

    Integers would be read as states without noise in a table of zeros; in half precision the tables' small entries,
    1 − ᾱ_1 among them, and sums over thousands of pixels are lost. Looks at the dtype alone, so no GPU is waited for.

    >>> check_precision(torch.zeros(1, 8, 8, dtype=torch.uint8), "x0")
    Traceback (most recent call last):
    ...
    ValueError: x0 holds integers (uint8); scale pixels to [−1, 1] as float32 first: x0.float() / 127.5 − 1 for 0…255
    """
    if x.dtype in (torch.float32, torch.float64):
        return
    kind = str(x.dtype).removeprefix("torch.")
    if x.is_floating_point():
        raise ValueError(
            f"{name} is {kind}, in which log-probabilities lose whole nats; give float32 or float64, "
            "and let torch.autocast run the network alone in half precision"
        )
    if x.is_complex():
        raise ValueError(f"{name} holds complex numbers ({kind}); states are float32 or float64")
    raise ValueError(
        f"{name} holds integers ({kind}); scale pixels to [−1, 1] as float32 first: {name}.float() / 127.5 − 1 for 0…255"
    )
