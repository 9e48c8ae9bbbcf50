"""Data parallelism under torchrun: which part of a global batch a rank does, and how the parts come together.

Every rank draws the noise of the *whole* global batch (on the CPU, a few milliseconds) and takes its own rows,
so noise is a function of (seed, step, global index) whatever the number of ranks. Losses are sums over a rank's
rows divided by the global count; summed over ranks, gradients are those of one process up to rounding. Only
dropout's masks differ with the number of ranks: they are drawn inside the network.

Without torchrun's RANK and WORLD_SIZE there is one rank, and every function here is the identity.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "agree",
    "assemble",
    "gather",
    "is_first",
    "join",
    "layer_key",
    "local_rank",
    "share",
    "size",
    "sum_gradients",
    "total",
    "wait",
]

T = TypeVar("T")


def size() -> int:
    """The number of ranks."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this process is, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Which of this machine's ranks this process is: the index of its GPU among the visible ones."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Whether this rank writes artifacts."""
    return rank() == 0


def join() -> None:
    """Meet the other ranks, once a process. Tensors on the CPU travel by gloo, those on GPUs by NCCL."""
    if size() == 1 or dist.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend)


def share(count: int) -> slice:
    """The slice of ``count`` rows that is this rank's; the shares of all ranks are all rows, in order."""
    return slice(rank() * count // size(), (rank() + 1) * count // size())


def layer_key() -> tuple[object, ...]:
    """What a rank adds to the key of its dropout masks, so that no two ranks strike the same units."""
    return ("rank", rank()) if size() > 1 else ()


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over ranks; ``value`` itself is left as it is."""
    if size() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value


def assemble(part: Tensor, count: int) -> Tensor:
    """[count, ...] from the ranks' shares ``part`` of its rows, without a gradient."""
    if size() == 1:
        return part.detach()
    whole = part.new_zeros((count, *part.shape[1:]))
    whole[share(count)] = part.detach()
    dist.all_reduce(whole)  # the other ranks' rows are zero here, so the sum puts them together exactly
    return whole


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace each gradient by its sum over ranks, in one transfer; a rank without rows adds zeros."""
    if size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]  # of all
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [p.view(g.shape) for p, g in zip(parts, gradients, strict=True)])


def gather(value: T) -> list[T]:
    """The list of every rank's ``value`` (any object, tensors on the CPU), on every rank, in rank order."""
    if size() == 1:
        return [value]
    values = [value] * size()
    dist.all_gather_object(values, value)
    return values


def agree(number: int) -> int:
    """The largest of the ranks' small non-negative ints. On the host alone: it does not wait for any GPU."""
    if size() == 1:
        return number
    largest = torch.tensor(number)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def wait() -> None:
    """Go on when every rank is here."""
    if size() > 1:
        agree(0)
