"""Read a Diffusers DDPM folder, ours or another's, as the model that our likelihood and sampler want."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from mlegfn.checkpoints.layout import Layout, json_of, locate
from mlegfn.checkpoints.scheduler import Scheduler, read_scheduler
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.errors import UserError
from mlegfn.training.checkpoint import log_variance_of
from mlegfn.training.compute import fast_network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from torch import Tensor

    from mlegfn.artifacts import StrPath
    from mlegfn.diffusion.process import GaussianDiffusion
    from mlegfn.training.compute import UNet

__all__ = ["External", "read"]


class Compute(NamedTuple):
    """What ``training.compute.fast_network`` asks of settings; nothing is compiled or laid out anew here."""

    precision: str
    evaluation: str
    channels_last: bool = False
    cuda_graphs: bool = False


@dataclass
class External:
    """A pretrained network with all that its folder says of the chain it belongs to.

    variance: ``large``, ``small``, ``analytic`` or ``learned``; errors [T]: E‖ε − ε_θ‖²/d behind ``analytic``
    (None: not estimated yet); levels: grey values that it was trained on, None where the folder does not say;
    record: our mlegfn.json, {} in a folder of others; source: who named the variance.
    """

    path: str
    layout: Layout
    network: UNet
    scheduler: Scheduler
    variance: str
    source: str
    decoder: str
    levels: int | None
    errors: list[float] | None
    record: dict[str, Any]
    precision: str = "fp32"

    @property
    def channels(self) -> int:
        return self.network.config.in_channels

    @property
    def size(self) -> tuple[int, ...] | None:
        """(height, width), or None where the configuration leaves it open."""
        size = self.network.config.sample_size
        return (size, size) if isinstance(size, int) else None if size is None else tuple(size)

    def model(
        self, levels: int | None, errors: Tensor | Sequence[float] | None = None, clip: float | None = None
    ) -> DenoisingModel:
        """P_F as a ``DenoisingModel`` with the decoder of ``levels`` grey values.

        ``errors`` replace the folder's own; ``clip``: x̂_0 is clipped to [−clip, clip], as diffusers' samplers do.
        """
        process, errors = self.scheduler.process, self.errors if errors is None else errors
        if self.variance == "analytic" and errors is None:
            errors = [1.0] * process.timesteps  # enough for what reads ε_θ alone: estimating them
        try:
            table = log_variance_of(process, self.variance, errors)
        except (ValueError, IndexError, TypeError, RuntimeError) as error:
            file = self.layout.ours if self.source == "mlegfn.json" else self.layout.unet
            raise UserError(f"{file}: epsilon_errors: {error}; fetch the folder anew") from None
        network = fast_network(self.network, Compute(self.precision, self.precision))
        function = epsilon_function(network, process, self.scheduler.prediction, table is None, clip)
        return DenoisingModel(function, process, table, levels, self.decoder)

    def check_images(self, shape: Sequence[int], levels: int, label: str) -> None:
        """Refuse images of a shape [C, H, W] or of grey levels that are not the network's."""
        size = self.size or tuple(shape[1:])
        if tuple(shape) != (self.channels, *size):
            raise UserError(
                f"{self.path}: its network takes images of {_said(self.channels, *size)}, {label} holds "
                f"{_said(*shape)}"
            )
        if self.levels not in (None, levels):
            raise UserError(
                f"{self.path}: trained on {self.levels} grey levels, but {label} has {levels}; "
                f"where that is meant, give levels {levels}"
            )


def read(
    path: StrPath,
    variance: str | None = None,
    decoder: str | None = None,
    levels: int | None = None,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> External:
    """The ``External`` of a Diffusers folder or hub id; the network in eval mode, weights float32, on ``device``.

    ``precision``: what it computes in, ``fp32``, ``tf32`` or ``bf16`` (``training.compute``).
    ``variance``, ``decoder`` and ``levels`` go before what the folder says; without either, the decoder is
    ``exact``.
    :raises UserError: one line that says which file is at fault
    """
    layout = locate(path)
    scheduler = read_scheduler(layout.scheduler)
    record = json_of(layout.ours) if layout.ours else {}
    network = _network(path, layout)
    outputs = network.config.out_channels // network.config.in_channels
    recorded, errors = {}, None
    if record:
        try:
            recorded, errors = record["diffusion"], record["epsilon_errors"]
            known = {"variance": recorded["variance"], "decoder": recorded["decoder"]}
            trained_on = record["dataset"]["levels"]
        except (KeyError, TypeError):
            raise _altered(layout.ours) from None
        if not _is_ours(known, trained_on, errors):
            raise _altered(layout.ours)
        kind, source = known["variance"], "mlegfn.json"
    else:
        kind, trained_on = scheduler.variance, None
        source = f"{scheduler.name}'s " + str(scheduler.variance_type or "lack of one")
    if variance is not None:
        kind, source = variance, "the caller"
        errors = errors if recorded.get("variance") == variance else None
    if kind not in ("large", "small", "analytic", "learned"):
        raise UserError(
            f"{layout.scheduler}: variance_type {scheduler.variance_type!r} is not read; "
            "give the variance large, small or analytic to replace it"
        )
    if kind == "learned" and outputs != 2:
        raise UserError(
            f"{layout.scheduler}: the variance is learned, but the network has {network.config.out_channels} outputs, "
            f"not {2 * network.config.in_channels}; give the variance large or small to replace it"
        )
    return External(
        path=str(path),
        layout=layout,
        network=network.to(device),
        scheduler=scheduler,
        variance=kind,
        source=source,
        decoder=decoder or recorded.get("decoder", "exact"),
        levels=levels or trained_on,
        errors=errors,
        record=record,
        precision=precision,
    )


def _altered(file: Path | None) -> UserError:
    return UserError(f"{file}: altered, or from another version; remove it to use the scheduler's")


def _is_ours(known: Mapping[str, object], levels: object, errors: object) -> bool:
    """Whether mlegfn.json holds what we write there."""
    numbers = errors is None or (
        isinstance(errors, list) and all(isinstance(e, (int, float)) for e in errors)
    )
    return (
        isinstance(known["variance"], str)
        and known["decoder"] in ("exact", "tanh")
        and type(levels) is int
        and 2 <= levels <= 256
        and numbers
    )


def epsilon_function(
    network: Callable[[Tensor, Tensor], Tensor],
    process: GaussianDiffusion,
    prediction: str,
    learned: bool,
    clip: float | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """(x [N, C, H, W], time [N]) → ε_θ, with the variances' C channels behind it if ``learned``.

    With a = √ᾱ_t, s = √(1 − ᾱ_t), x_t = a x_0 + s ε: a network for v = a ε − s x_0 (Salimans & Ho 2022,
    arXiv 2202.00512, §4) means ε = a v + s x_t, one for x_0 means ε = (x_t − a x_0)/s: exact, not fitted.
    ``time`` counts from 0, as diffusers does: it is our t less one.
    """

    def function(x: Tensor, time: Tensor) -> Tensor:
        out = network(x, time)
        eps, rest, t = out[:, : x.shape[1]], out[:, x.shape[1] :], time + 1
        if prediction == "v_prediction":
            eps = process.table("sqrt_alpha_bar", t, x) * eps + process.table("noise_std", t, x) * x
        elif prediction == "sample":
            eps = process.noise_of(eps, x, t)
        if clip is not None:
            eps = process.noise_of(process.predict_x0(x, t, eps).clamp(-clip, clip), x, t)
        return torch.cat([eps, rest], 1) if learned else eps

    return function


def _network(path: StrPath, layout: Layout) -> UNet:
    """The U-Net, every weight of it read from the file."""
    from diffusers import UNet2DModel
    from diffusers.utils import logging

    file = layout.unet / "config.json"
    config = json_of(file)
    if (name := config.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise UserError(
            f"{file}: is of a {name}, not of a UNet2DModel, the unconditional U-Net in pixel space"
        )
    if config.get("num_class_embeds") is not None or config.get("class_embed_type") is not None:
        raise UserError(
            f"{path}: its network wants a class with each image; only unconditional ones are read"
        )
    _check_size(file, config, layout.weights)
    logging.set_verbosity_error()  # its warnings are our errors
    try:
        network, info = UNet2DModel.from_pretrained(
            layout.unet,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,  # the other way is for models larger than the memory, and wants `accelerate`
            output_loading_info=True,
        )
        channels = network.config.in_channels, network.config.out_channels
    except Exception as error:  # a configuration can be wrong in every way that Python knows
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise UserError(
            f"{path}: diffusers cannot build its U-Net ({reason}); fetch the folder anew"
        ) from None
    if wrong := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
        raise UserError(
            f"{path}: weights and config.json do not belong together ({len(wrong)} differ, {wrong[0]} first)"
        )
    if channels[1] not in (channels[0], 2 * channels[0]):
        raise UserError(
            f"{file}: {channels[0]} channels in and {channels[1]} out; a denoiser has as many out, or twice as many"
        )
    ready: UNet = network.float().eval()
    return ready


def _check_size(file: Path, config: Mapping[str, Any], weights: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a configuration that has not the size of its weights, before its memory is taken."""
    if config.get("quantization_config") is not None:  # other libraries would read the weights
        raise UserError(f"{file}: quantization_config is not read; save the network without it")
    size = config.get("sample_size")
    sides = size if isinstance(size, list) and len(size) == 2 else [size]
    if size is not None and not all(type(side) is int and 1 <= side <= 10**5 for side in sides):
        raise UserError(
            f"{file}: sample_size {str(size)[:40]} is not the width of images, or [height, width]"
        )
    blocks, layers = config.get("block_out_channels", [0] * 4), config.get("layers_per_block", 2)
    held = sum(math.prod(shape) for shape in weights.values())
    try:
        # Every layer has tensors of its own; a network without memory is quick to count, unless it has 10^9 layers.
        # So has every channel, and 10^9 of them overflow what counts weights.
        many = len(blocks) * max(layers, 1) > len(weights) or max(blocks) > held
        wanted = math.inf if many else _weights_of(config)
    except Exception:  # diffusers says below what is wrong with it
        return
    if wanted > 4 * held:
        raise UserError(
            f"{file}: asks for {'far more' if many else wanted} weights, the files hold {held}; they do not belong together"
        )


def _weights_of(config: Mapping[str, Any]) -> int:
    from diffusers import UNet2DModel

    with torch.device("meta"):
        return sum(weight.numel() for weight in UNet2DModel.from_config(config).parameters())


def _said(channels: int, height: int, width: int) -> str:
    return f"{channels}×{height}×{width}"
