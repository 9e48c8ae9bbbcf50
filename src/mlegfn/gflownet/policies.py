"""The perceptron that is the forward policy of every task without a structure of its own."""

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["MLPPolicy"]


class MLPPolicy(nn.Module):
    """A state's features → (logits of P_F [N, A], log F(s) − log Z [N]): 2 × 64 and LeakyReLU, as the paper's.

    Both are read off the same last layer: the flow costs one more output, and no objective that does not use it
    trains it.
    """

    def __init__(self, target, hidden=64, layers=2):
        super().__init__()
        self.target = target
        features = target.features(target.initial(1)).shape[1]
        widths = [features, *[hidden] * layers, target.actions + 1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))

    def inputs(self, states):
        """float32 [N, F]: the target's features."""
        return self.target.features(states).to(self.layers[0].weight.dtype)

    def forward(self, inputs):
        *inner, last = self.layers
        for layer in inner:
            inputs = F.leaky_relu(F.linear(inputs, layer.weight, layer.bias), inplace=True)
        out = F.linear(inputs, last.weight, last.bias)
        return out[:, :-1], out[:, -1]

    def walker(self):
        """inputs → logits of P_F alone, for a rollout, in which no weight changes: fewer operations a step."""
        *inner, last = [(layer.weight.T, layer.bias) for layer in self.layers]
        weight, bias = last[0][:, :-1].contiguous(), last[1][:-1]

        def logits(inputs):
            for matrix, shift in inner:
                inputs = F.leaky_relu_(torch.addmm(shift, inputs, matrix))
            return torch.addmm(bias, inputs, weight)

        return logits
