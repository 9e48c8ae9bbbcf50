"""Every draw is a pure function of its key, so nothing depends on how often a run was stopped."""

import hashlib

import torch
from torch import Tensor

__all__ = ["batch_indices", "generator", "onto", "seed_layers"]


def generator(seed: int | str, *key: object) -> torch.Generator:
    """A CPU generator for the draw named by ``(seed, *key)``, e.g. ``(0, "finetune", 400, 17)``.

    The parts are joined with their types, so ``1`` and ``"1"`` are different keys. Draws are made on
    the CPU and then moved: CUDA's generators give other numbers for the same seed.

    >>> first, again, other = (torch.rand(1, generator=generator(0, "noise", key)) for key in (1, 1, "1"))
    >>> bool(first == again), bool(first == other)
    (True, False)
    """
    name = "\x1f".join(f"{type(part).__name__}:{part}" for part in (seed, *key))
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def onto(device: torch.device | str, drawn: Tensor) -> Tensor:
    """``drawn`` (a tensor on the CPU) on ``device``. From pinned memory, so that the host need not wait for the
    GPU to finish what it is doing."""
    if torch.device(device).type != "cuda":
        return drawn.to(device)
    return drawn.pin_memory().to(device, non_blocking=True)


def seed_layers(seed: int, *key: object) -> None:
    """Seed torch's global generators, from which dropout draws, with ``(seed, *key)``."""
    value = generator(seed, *key, "layers").initial_seed()
    if torch.cuda.is_initialized():
        torch.manual_seed(value)
    else:  # the same for the CPU; torch.manual_seed queues a stack trace for each device that may yet come
        torch.default_generator.manual_seed(value)


def batch_indices(seed: int, stage: str, step: int, batch: int, count: int) -> Tensor:
    """[batch] int64: which of ``count`` items step ``step`` (0-based) sees.

    Every epoch is a fresh permutation, a function of (seed, stage, epoch); step k takes the items
    k·batch … (k+1)·batch − 1 of their concatenation, so a resumed run sees what it would have. Raises ValueError for
    a batch of nothing, or of no items.

    >>> sorted(torch.cat([batch_indices(0, "train", step, 2, 6) for step in range(3)]).tolist())  # one epoch
    [0, 1, 2, 3, 4, 5]
    """
    if count < 1 or batch < 1:
        raise ValueError(f"a batch needs at least 1 item of at least 1, got {batch} of {count}")
    place = torch.arange(step * batch, (step + 1) * batch)
    epochs = (place // count).unique().tolist()
    orders = [torch.randperm(count, generator=generator(seed, stage, "order", epoch)) for epoch in epochs]
    return torch.cat(orders)[place - epochs[0] * count]
