"""The policy of a continuous target: coordinates in turn, each from a mixture of normals that a network gives."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["CoordinatePolicy"]


class CoordinatePolicy(nn.Module):
    """P_F(x) = Π_d P_F(x_d | x_<d), each factor Σ_k w_k N(m_k, s_k²) with w, m, s of x_<d.

    An object is built from s_0 in D steps, in one way only: P_B is 1 and P_F(x) is the density itself.

    One MLP, 2 × ``hidden``, LeakyReLU, reads which coordinate is next (one of D) and those there are, in
    units of ``spread``, 0 for those to come. It gives log w, m, log s, and log F(s)/Z. At first the means lie
    evenly on ±``spread``, as wide as they are apart: what is within is reached, and what is not is for most
    objectives lost, since they only see what the policy draws.
    """

    which: Tensor
    known: Tensor

    def __init__(
        self,
        dimensions: int,
        hidden: int = 64,
        components: int = 10,
        spread: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:  # assumed: components, spread
        super().__init__()
        if dimensions < 1 or components < 1 or not spread > 0:
            raise ValueError(
                "a policy has dimensions, components ≥ 1 and spread > 0, "
                f"not {dimensions}, {components} and {spread}"
            )
        self.dimensions, self.components, self.spread = dimensions, components, spread
        self.body = nn.Sequential(
            nn.Linear(2 * dimensions, hidden, dtype=dtype),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden, dtype=dtype),
            nn.LeakyReLU(),
        )
        self.head = nn.Linear(hidden, 3 * components, dtype=dtype)
        self.flow = nn.Linear(hidden, 1, dtype=dtype)
        with torch.no_grad():
            places = (2 * torch.arange(components, dtype=dtype) + 1) / components - 1
            width = torch.full_like(places, math.log(2 / components))
            self.head.bias.copy_(torch.cat([torch.zeros_like(places), places, width]))
        self.register_buffer("which", torch.eye(dimensions, dtype=dtype), persistent=False)
        self.register_buffer(
            "known", torch.ones(dimensions, dimensions, dtype=dtype).tril(-1), persistent=False
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """[N, D] → [N, D]: log P_F of each step, nats; one evaluation of the network."""
        return self._densities(self._states(x), self._points(x).flatten()).view(x.shape)

    def log_flow(self, x: Tensor) -> Tensor:
        """[N, D] → [N, D]: log F(s_d) − log Z of the states s_0 … s_{D−1} on the way to x; 0 at s_0, as F(s_0) = Z."""
        flow: Tensor = self.flow(self.body(self._states(x))).view(x.shape)
        return flow * (torch.arange(self.dimensions, device=x.device) > 0)

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """[count, D] by the CPU generator ``rng``: for each coordinate which component, then a normal."""
        like = self.which
        x = like.new_zeros(count, self.dimensions)
        component = torch.rand(self.dimensions, count, generator=rng, dtype=torch.float64).to(like)
        normal = torch.randn(self.dimensions, count, generator=rng, dtype=torch.float64).to(like)
        for d in range(self.dimensions):
            prefix = x[: count if d else 1]  # s_0 is one state
            log_weight, mean, log_width = self._mixture(self._states_of(prefix, d))
            below = log_weight.exp().cumsum(1)[:, :-1].expand(count, -1)
            k = (below < component[d][:, None]).sum(1, keepdim=True)
            mean, width = (part.expand(count, -1).gather(1, k)[:, 0] for part in (mean, log_width.exp()))
            x[:, d] = mean + width * normal[d]
        return x

    @torch.no_grad()
    def on_grid(self, axes: Sequence[Tensor]) -> Tensor:
        """Log density on the product of ``axes``, D tensors [n_d] → [n_1, …, n_D]; for each prefix the network once."""
        log_p = self.which.new_zeros(())
        prefixes = self.which.new_zeros(1, self.dimensions)
        for d, axis in enumerate(axes):
            axis = axis.to(self.which)
            mixture = [part[:, None] for part in self._mixture(self._states_of(prefixes, d))]
            step = _log_density(axis[None, :, None], *mixture)
            log_p = log_p[..., None] + step.view(*log_p.shape, len(axis))
            prefixes = prefixes.repeat_interleave(len(axis), 0)
            prefixes[:, d] = axis.repeat(len(prefixes) // len(axis))
        return log_p

    def _points(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.dimensions:
            raise ValueError(f"points are [N, {self.dimensions}], got shape {tuple(x.shape)}")
        return x.to(self.which)

    def _states(self, x: Tensor) -> Tensor:
        """[N·D, 2D]: of each x the states s_0 … s_{D−1}."""
        known = self._points(x)[:, None] / self.spread * self.known
        return torch.cat([self.which.expand_as(known), known], 2).flatten(0, 1)

    def _states_of(self, x: Tensor, d: int) -> Tensor:
        """[N, 2D]: s_d of each x."""
        return torch.cat([self.which[d].expand_as(x), x / self.spread * self.known[d]], 1)

    def _mixture(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[M, 2D] → log w, m, log s, each [M, K], the last two in units of x."""
        logits, mean, log_width = self.head(self.body(states)).chunk(3, 1)
        return logits.log_softmax(1), self.spread * mean, log_width + math.log(self.spread)

    def _densities(self, states: Tensor, x: Tensor) -> Tensor:
        """[M, 2D], [M] → [M]."""
        return _log_density(x[:, None], *self._mixture(states))


def _log_density(x: Tensor, log_weight: Tensor, mean: Tensor, log_width: Tensor) -> Tensor:
    """log Σ_k w_k N(x; m_k, s_k²), summed over the last dimension."""
    z = (x - mean) * (-log_width).exp()
    return (log_weight - log_width - z.square() / 2).logsumexp(-1) - math.log(2 * math.pi) / 2
