"""Everything that a training run is at one moment: weights, EMA, Adam moments, step."""

from dataclasses import dataclass
from typing import Protocol

import torch

from mlegfn.training.ema import Ema

__all__ = ["OptimizerSettings", "TrainingState", "new_state"]


class OptimizerSettings(Protocol):
    """Of Adam, its learning rate, the clipping of gradients, and the average of weights."""

    @property
    def lr(self) -> float: ...

    @property
    def warmup(self) -> int:
        """Steps over which the learning rate rises."""

    @property
    def clip(self) -> float:
        """The largest norm of a gradient."""

    @property
    def ema_decay(self) -> float: ...


@dataclass
class TrainingState:
    """A network in training. ``step`` counts finished optimiser steps."""

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    step: int = 0

    def tensors(self) -> dict[str, torch.Tensor]:
        """A flat name → tensor dict of the whole state, for safetensors."""
        flat = {"step": torch.tensor(self.step), "ema.step": torch.tensor(self.ema.optimization_step)}
        names = [name for name, _ in self.network.named_parameters()]
        for name, parameter in self.network.named_parameters():
            flat[f"raw.{name}"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                flat[f"adam.{key}.{name}"] = value
        for name, shadow in zip(names, self.ema.shadow_params, strict=True):
            flat[f"ema.{name}"] = shadow
        return {name: value.detach().cpu().contiguous() for name, value in flat.items()}

    @torch.no_grad()
    def load(self, flat: dict[str, torch.Tensor]) -> None:
        """Take over the state of ``tensors``, whole or not at all: ValueError if it belongs to another
        network, or lacks something that training on would need."""
        named = dict(self.network.named_parameters())
        expected, stored = (
            {f"raw.{name}" for name in named},
            {name for name in flat if name.startswith("raw.")},
        )
        if expected != stored or any(flat[f"raw.{n}"].shape != p.shape for n, p in named.items()):
            raise ValueError("the stored state belongs to a network of another architecture")
        moments = {f"adam.{key}.{name}" for key in ("step", "exp_avg", "exp_avg_sq") for name in named}
        needed = {"step", "ema.step", *(f"ema.{name}" for name in named)}
        if needed <= flat.keys() and (int(flat["step"]) > 0 or moments & flat.keys()):
            needed |= moments  # without its moments Adam would go on, elsewhere
        if missing := sorted(needed - flat.keys()):
            raise ValueError(f"the stored state lacks {missing[0]} and {len(missing) - 1} more")
        self.step = int(flat["step"])
        self.ema.optimization_step = int(flat["ema.step"])
        self.optimizer.state.clear()
        for (name, parameter), shadow in zip(named.items(), self.ema.shadow_params, strict=True):
            parameter.copy_(flat[f"raw.{name}"])
            shadow.copy_(flat[f"ema.{name}"])
            if moments <= needed:
                self.optimizer.state[parameter] = {
                    "step": flat[f"adam.step.{name}"].to(self._step_device(parameter), copy=True),
                    # In the parameter's own memory layout: a fused Adam walks all of them in memory order, and
                    # with channels_last weights beside contiguous moments it would pair the wrong numbers.
                    "exp_avg": torch.empty_like(parameter).copy_(flat[f"adam.exp_avg.{name}"]),
                    "exp_avg_sq": torch.empty_like(parameter).copy_(flat[f"adam.exp_avg_sq.{name}"]),
                }

    def begin_again(self) -> None:
        """Count steps from 0 with fresh Adam moments: those of another loss would set the length of the first steps."""
        self.optimizer.state.clear()
        self.step = 0

    def _step_device(self, parameter: torch.Tensor) -> torch.device | str:
        """Where Adam keeps its count: a fused one beside the weights, any other on the CPU."""
        return parameter.device if self.optimizer.defaults.get("fused") else "cpu"

    def ema_weights(self) -> dict[str, torch.Tensor]:
        """The network's state dict with the EMA in place of the raw weights."""
        weights = dict(self.network.state_dict())
        weights.update(
            zip((n for n, _ in self.network.named_parameters()), self.ema.shadow_params, strict=True)
        )
        return {name: value.detach().cpu().clone() for name, value in weights.items()}


def new_state(network: torch.nn.Module, settings: OptimizerSettings) -> TrainingState:
    """A fresh ``TrainingState`` with Adam and an EMA as ``settings`` say."""
    # torch's default on a CPU is a Python loop over the parameters: for the digits' U-Net, a tenth of a step.
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
    return TrainingState(network, optimizer, Ema(network.parameters(), settings.ema_decay))
