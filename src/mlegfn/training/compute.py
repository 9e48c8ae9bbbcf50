"""How the network is computed: precision, memory layout, compilation, as the settings ``compute`` say.

Weights, optimiser, losses and everything else of ours stay in fp32; only the network's inside changes. What
each setting gains is in benchmarks/; docs/decisions.md says how the defaults were chosen.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, cast

import torch

if TYPE_CHECKING:
    from collections import OrderedDict
    from collections.abc import Callable, Sequence
    from typing import Any

    from torch import Tensor, nn

    class UNetConfig(OrderedDict[str, Any]):
        """The configuration of diffusers' ``UNet2DModel``: its entries are attributes too."""

        in_channels: int
        out_channels: int
        sample_size: int | Sequence[int] | None

    class UNet(nn.Module):
        """Diffusers' ``UNet2DModel``, or what has its configuration."""

        config: UNetConfig


__all__ = ["ComputeSettings", "EvaluationSettings", "fast_network", "make_reproducible", "place"]

# A resolution, a batch size and with or without gradients are a compiled version each, of one and the same
# forward(); torch's own limit, 8, would leave most of them uncompiled.
VERSIONS = 256


class EvaluationSettings(Protocol):
    """How a network that has its place is evaluated."""

    @property
    def precision(self) -> str:
        """``fp32``, ``tf32`` or ``bf16``: in training mode."""

    @property
    def evaluation(self) -> str:
        """The same in evaluation mode."""

    @property
    def channels_last(self) -> bool: ...

    @property
    def cuda_graphs(self) -> bool: ...


class ComputeSettings(EvaluationSettings, Protocol):
    """How a network is computed."""

    @property
    def compile(self) -> str:
        """``none``, ``regional`` or ``full``."""


def make_reproducible(wanted: bool) -> None:
    """Ask CUDA for bit-equal results of equal work (``compute.deterministic``), or else for the fastest.

    Before CUDA is first used, because cuBLAS reads its environment then. A CPU needs none of it.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = not wanted


def place(network: nn.Module, compute: ComputeSettings, device: torch.device | str) -> nn.Module:
    """The network on its device, in the settings' memory layout, compiled if it asks for that; in the mode,
    training or evaluation, that it comes in."""
    layout = torch.channels_last if compute.channels_last else torch.preserve_format
    # Both at once is documented, but not among torch's overloads.
    network = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    if compute.compile != "none" and torch.device(device).type == "cuda":
        compile_network(network, compute)
    return network


def compile_network(network: nn.Module, compute: ComputeSettings) -> None:
    """torch.compile in place: parameters keep their names. ``regional`` compiles each kind of block once,
    which takes seconds where the whole network takes minutes."""
    mode = "reduce-overhead" if compute.cuda_graphs else None
    for module in regions(network) if compute.compile == "regional" else [network]:
        module.compile(mode=mode, dynamic=False, recompile_limit=VERSIONS)
    try:
        _try(network)
    except Exception as error:  # whatever compilers raise: a missing gcc, a GPU that Triton does not know, …
        torch.compiler.set_stance("force_eager")  # for this process: what fails once would fail again
        reason = " ".join(str(error).split())[:200]
        print(
            f"torch.compile failed ({type(error).__name__}: {reason}); going on without it, slower. "
            "With compile: none this is not tried"
        )


def regions(network: nn.Module) -> list[nn.Module]:
    """The U-Net's repeated blocks: where its time goes."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.upsampling import Upsample2D

    return [
        m for m in network.modules() if isinstance(m, ResnetBlock2D | Attention | Downsample2D | Upsample2D)
    ]


def _try(network: nn.Module) -> None:
    """Run two images through the network, and back where it is to be trained, so that a compiler that cannot
    work fails here."""
    config, first = cast("UNet", network).config, next(network.parameters())
    size = cast("int", config.sample_size)  # as build_unet gives it
    x = torch.zeros(2, config.in_channels, size, size, device=first.device)
    time = torch.zeros(2, dtype=torch.long, device=first.device)
    with torch.random.fork_rng([first.device] if first.is_cuda else []):
        with torch.set_grad_enabled(network.training):
            out = network(x, time, return_dict=False)[0]
        if network.training:
            out.sum().backward()
    network.zero_grad(set_to_none=True)


def fast_network(network: nn.Module, compute: EvaluationSettings) -> Callable[[Tensor, Tensor], Tensor]:
    """The function (x [N, C, H, W], time [N]) → output that ``DenoisingModel`` wants, in the settings' precision.

    ``compute.precision`` holds while the network is in training mode, ``compute.evaluation`` else. The output
    has the dtype of x.
    """

    def evaluate(x: Tensor, time: Tensor) -> Tensor:
        precision = compute.precision if network.training else compute.evaluation
        if x.is_cuda:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        if compute.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if compute.cuda_graphs and x.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()
        out: Tensor
        if precision != "bf16":
            out = network(x, time, return_dict=False)[0]
            # A graph's next replay overwrites its output.
            return out.clone() if compute.cuda_graphs and x.is_cuda else out
        with torch.autocast(x.device.type, torch.bfloat16):
            out = network(x, time, return_dict=False)[0].to(x.dtype)
            return out

    return evaluate
