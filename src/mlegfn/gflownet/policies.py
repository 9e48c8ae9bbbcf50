"""The perceptron that is the forward policy of every task without a structure of its own."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from mlegfn.targets import Target

__all__ = ["MLPPolicy", "Parametric", "Policy"]


class Parametric(Protocol):
    """What is trained."""

    def parameters(self) -> Iterator[nn.Parameter]: ...


class Policy(Parametric, Protocol):
    """What walks on a discrete target. It may have a ``walker``, as ``MLPPolicy``."""

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What it reads of states, [N, …] → (logits of P_F [N, A], log F(s) − log Z [N])."""


class MLPPolicy(nn.Module):
    """A state's features → (logits of P_F [N, A], log F(s) − log Z [N]): 2 × 64 and LeakyReLU, as the paper's.

    Both are read off the same last layer: the flow costs one more output, and no objective that does not use it
    trains it.
    """

    def __init__(self, target: "Target", hidden: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.target = target
        features = target.features(target.initial(1)).shape[1]
        widths = [features, *[hidden] * layers, target.actions + 1]
        linear = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.layers = cast("Sequence[nn.Linear]", linear)  # a ModuleList does not say of what

    def inputs(self, states: Tensor) -> Tensor:
        """float32 [N, F]: the target's features."""
        return self.target.features(states).to(self.layers[0].weight.dtype)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        *inner, last = self.layers
        for layer in inner:
            inputs = F.leaky_relu(F.linear(inputs, layer.weight, layer.bias), inplace=True)
        out = F.linear(inputs, last.weight, last.bias)
        return out[:, :-1], out[:, -1]

    def walker(self) -> Callable[[Tensor], Tensor]:
        """inputs → logits of P_F alone, for a rollout, in which no weight changes: fewer operations a step."""
        *inner, last = [(layer.weight.T, layer.bias) for layer in self.layers]
        weight, bias = last[0][:, :-1].contiguous(), last[1][:-1]

        def logits(inputs: Tensor) -> Tensor:
            for matrix, shift in inner:
                inputs = F.leaky_relu_(torch.addmm(shift, inputs, matrix))
            return torch.addmm(bias, inputs, weight)

        return logits
