"""A posterior bent like a banana: a standard normal prior, and one noisy look at a quadratic of x.

The task of arXiv 2410.09355, whose own formula the text that we hold does not give.
"""

import math
from functools import cached_property

import torch
from torch import Tensor

from mlegfn.randomness import seed_layers
from mlegfn.targets.points import as_points

__all__ = ["Banana"]

BEYOND = 6.0  # standard deviations of x_1 given x_2, as in the mixture
TAIL = 1e-8  # of x_2's mass, beyond the box on either side


class Banana:
    """x ∈ R², coordinate after coordinate, with the joint density of prior and observation as reward:

        R(x) = N(x; 0, I) N(y; x_1 + x_2², σ²),    Z = p(y), the evidence    # assumed: all of it

    Given x_2 the posterior of x_1 is normal: all that is needed of it is an integral over x_2, of

        p(x_2, y) = N(x_2; 0, 1) N(y; x_2², 1 + σ²),    x_1 | x_2, y ~ N((y − x_2²)/(1 + σ²), σ²/(1 + σ²))

    A policy has it the other way round: x_1 first, then x_2 = ±√(y − x_1), two modes that meet in the bend.
    """

    dimensions = 2

    def __init__(self, y: float = 1.0, noise: float = 0.3) -> None:  # assumed
        if not (math.isfinite(y) and noise > 0):
            raise ValueError(f"an observation is finite and its noise > 0, got {y} and {noise}")
        self.y, self.noise = y, noise

    def log_reward(self, x: Tensor) -> Tensor:
        """[N, 2] → float64 [N]: log R(x), nats."""
        return -self._energy(*as_points(x, 2).unbind(1)) - math.log(self.noise) - 1.5 * math.log(2 * math.pi)

    def _energy(self, first: Tensor, second: Tensor) -> Tensor:
        """Of the same shape: −log R(x) without its constants."""
        missed = (self.y - first - second * second) / self.noise
        return (first * first + second * second + missed * missed) / 2

    def log_prob(self, x: Tensor) -> Tensor:
        """[N, 2] → float64 [N]: the posterior's log density, nats."""
        return self.log_reward(x) - self.log_z.to(x.device)

    @cached_property
    def log_z(self) -> Tensor:
        """[]: log p(y), nats, by the trapezoidal rule over x_2: for so smooth a density it converges exponentially."""
        return self._joint.logsumexp(0) + math.log(STEP)

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """(low [2], high [2]): all but some 1e-8 of the posterior's mass is in it."""
        beyond = (self._joint - self.log_z).exp().cumsum(0) * STEP < TAIL
        end = -_axis()[beyond.sum() - 1]
        variance = 1 + self.noise**2
        reach = BEYOND * self.noise / math.sqrt(variance)
        top, bottom = self.y / variance + reach, (self.y - end.square()) / variance - reach
        return torch.stack([bottom, -end]), torch.stack([bottom.new_tensor(top), end])

    @cached_property
    def _joint(self) -> Tensor:
        """[]: log p(x_2, y) on ``_axis``."""
        axis = _axis()
        return _log_normal(axis, 1.0) + _log_normal(self.y - axis.square(), 1 + self.noise**2)

    def nuts(self, count: int, seed: int, chains: int = 4, warmup: int = 500) -> Tensor:
        """float64 [chains, count, 2] by the No-U-Turn sampler (Hoffman & Gelman 2014) of Pyro, which is Stan's method.

        Independent chains from draws of the prior, each with its own ``warmup`` steps of adaptation, which are
        not returned. A function of the arguments alone; torch's own random state is left as it was.
        """
        from pyro.infer import MCMC, NUTS

        if count < 1 or chains < 1 or warmup < 0:
            raise ValueError(f"count and chains are ≥ 1, warmup ≥ 0, got {count}, {chains} and {warmup}")
        drawn = []
        for chain in range(chains):
            with torch.random.fork_rng():
                seed_layers(seed, "nuts", chain)  # torch's global generator, from which Pyro draws
                start = torch.randn(2, dtype=torch.float64)
                kernel = NUTS(potential_fn=lambda at: self._energy(*at["x"].unbind()))
                run = MCMC(
                    kernel, count, warmup_steps=warmup, initial_params={"x": start}, disable_progbar=True
                )
                run.run()
            drawn.append(run.get_samples()["x"])
        return torch.stack(drawn)


STEP, REACH = 2.0**-7, 12.0  # of the trapezoidal rule; N(x_2; 0, 1) is 1e-32 at the ends


def _axis() -> Tensor:
    return torch.arange(-REACH, REACH + STEP / 2, STEP, dtype=torch.float64)


def _log_normal(x: Tensor, variance: float) -> Tensor:
    """Of the same shape: log N(x; 0, variance)."""
    return -x.square() / (2 * variance) - math.log(2 * math.pi * variance) / 2
