"""THE interface: Markovian trajectories from a source s_0 to an object x, and their log-probabilities.

The paper's notation (arXiv 2209.02606): states s on a directed acyclic graph, trajectories
τ = (s_0 → s_1 → … → s_T = x), a forward policy P_F(s_{i+1}|s_i) that generates, a backward policy
P_B(s_i|s_{i+1}) that explains, a state flow F(s) with F(s_0) = Z and F(x) = R(x). Trajectory balance is

    Z · Π P_F(s_{i+1}|s_i)  =  R(x) · Π P_B(s_i|s_{i+1})    for every τ.

In code the index counts down, as in diffusion: x_t = s_{T−t}, so x_T is where a trajectory starts (noise, the
empty state: drawn from a prior, or fixed with log-probability 0), and x_0 = x is what it makes (data, an object).
P_F goes x_t → x_{t−1}, P_B goes x_{t−1} → x_t. Then, for every τ that ends in x,

    log w(τ) = log p(x_T) + Σ_t [log P_F(x_{t−1}|x_t) − log P_B(x_t|x_{t−1})]  =  log R(x) − log Z  =  log p(x)

is what balance says; for a model trained on data R is the data's own probability and Z = 1. Trajectories that end
early stay where they are for the steps that are left, with log-probability 0. A step that is *deterministic* both
ways, x_{t−1} = f(x_t), has Dirac policies; only their ratio means something, the change of variables, so there

    log P_F = −log |det ∂f/∂x_t|  on the graph of f,    log P_B = 0.

A *trajectory* is one joint path of P_B from one x_0: states drawn independently for each t have the right mean of
log w and a wrong variance.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__all__ = ["MarkovPair", "Trajectory", "score"]


@dataclass(frozen=True)
class Trajectory:
    """N scored trajectories of T steps. All log-probabilities are in nats.

    states:    [T+1, N, ...], ``states[t]`` is x_t
    log_prior: [N], log p(x_T)
    log_pf:    [T, N], entry t−1 is log P_F(x_{t−1} | x_t)
    log_pb:    [T, N], entry t−1 is log P_B(x_t | x_{t−1})
    """

    states: Tensor
    log_prior: Tensor
    log_pf: Tensor
    log_pb: Tensor

    def __post_init__(self) -> None:
        steps, count = self.states.shape[0] - 1, self.states.shape[1]
        shapes = [tuple(x.shape) for x in (self.log_prior, self.log_pf, self.log_pb)]
        if shapes != [(count,), (steps, count), (steps, count)]:
            raise ValueError(
                f"{count} trajectories of {steps} steps have log_prior [N], log_pf and log_pb [T, N], not {shapes}"
            )

    @property
    def log_w(self) -> Tensor:
        """[N]: log w(τ) = log p(x_T) + Σ_t [log P_F(x_{t−1}|x_t) − log P_B(x_t|x_{t−1})].

        A perfect model has log w(τ) = log p(x_0) for every τ.

        >>> import torch
        >>> log_pf, log_pb = torch.tensor([[-1.0], [-2.0]]), torch.tensor([[-0.5], [-0.5]])
        >>> Trajectory(torch.zeros(3, 1, 2), torch.tensor([-3.0]), log_pf, log_pb).log_w
        tensor([-5.])
        """
        return self.log_prior + (self.log_pf - self.log_pb).sum(0)


class MarkovPair(Protocol):
    """A model family: a forward policy P_F, a backward policy P_B and a prior over x_T.

    ``t`` is an int64 tensor [N] with values in 1…T, so that one call scores many steps.
    """

    timesteps: int

    def log_prior(self, x_T: Tensor) -> Tensor:
        """[N]: log p(x_T)."""

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """[N]: log P_F(x_{t−1} | x_t)."""

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """[N]: log P_B(x_t | x_{t−1})."""

    def sample_pb(self, x0: Tensor, generator: "torch.Generator") -> Tensor:
        """[T+1, N, ...]: one joint path of P_B from each x_0."""

    def sample_pf(self, shape: "Sequence[int]", generator: "torch.Generator") -> Tensor:
        """[T+1, N, ...]: one path of P_F from each of N draws of the prior; ``shape`` is [N, ...]."""


def score(pair: MarkovPair, states: Tensor) -> Trajectory:
    """The ``Trajectory`` of ``states`` [T+1, N, ...] under ``pair``, all steps in one call.

    :param pair: P_F, P_B and the prior; ``diffusion.model.DenoisingModel`` is one
    :param states: [T+1, N, ...], ``states[t]`` is x_t of one joint path, as ``pair.sample_pb`` gives them
    :raises ValueError: for another number of steps than the model's, and states that are not finite

    >>> import torch
    >>> from mlegfn.diffusion.model import DenoisingModel
    >>> from mlegfn.diffusion.process import GaussianDiffusion
    >>> from mlegfn.diffusion.variances import fixed_log_variance
    >>> process = GaussianDiffusion([0.1, 0.2])
    >>> model = DenoisingModel(lambda x, time: 0 * x, process, fixed_log_variance(process, "large"))
    >>> states = model.sample_pb(torch.zeros(5, 3), torch.Generator().manual_seed(0))
    >>> scored = score(model, states)
    >>> scored.log_pf.shape, scored.log_w.shape
    (torch.Size([2, 5]), torch.Size([5]))
    """
    steps, count = states.shape[0] - 1, states.shape[1]
    if steps != pair.timesteps:
        raise ValueError(f"a trajectory of this model has {pair.timesteps} steps, not {steps}")
    if not states.isfinite().all():
        raise ValueError("the trajectory holds states that are not finite")
    x_prev, x_t = states[:-1].flatten(0, 1), states[1:].flatten(0, 1)
    t = step_index(steps, count, states.device)
    return Trajectory(
        states,
        pair.log_prior(states[-1]),
        pair.log_pf(x_prev, x_t, t).view(steps, count),
        pair.log_pb(x_prev, x_t, t).view(steps, count),
    )


def step_index(steps: int, count: int, device: "torch.device | str | None" = None) -> Tensor:
    """[steps·count]: t = 1…steps, each repeated ``count`` times, as flattened trajectories want it."""
    import torch

    return torch.arange(1, steps + 1, device=device).repeat_interleave(count)
