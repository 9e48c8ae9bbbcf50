"""The noising process P_B = q: marginals, posteriors, bridges, joint trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlegfn.randomness import onto

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["GaussianDiffusion", "normal_log_prob"]


def normal_log_prob(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """[N, ...] → [N], nats: log N(x; mean, exp(log_variance)·I), summed over all but the first axis."""
    terms = -0.5 * ((x - mean) ** 2 * torch.exp(-log_variance) + log_variance + LOG_2PI)
    return terms.expand_as(x).flatten(1).sum(1)


LOG_2PI = 1.8378770664093453


class GaussianDiffusion:
    """q(x_t | x_{t−1}) = N(√α_t x_{t−1}, β_t I), α_t = 1 − β_t, ᾱ_t = Π_{s≤t} α_s (Ho et al. 2020, eq. 2).

    Every table is float64 and has T+1 entries, indexed by t itself: ``alpha_bar[0]`` = 1 and
    ``beta[0]`` is 0. ``t`` arguments are ints or int64 tensors [N]; coefficients are cast once, to the
    dtype of the states.

    ``network_times`` [T]: what a network trained on a longer chain calls our steps 1…T (0-based,
    as diffusers counts); it differs from 0…T−1 only after ``respaced``.

    Times outside of 0…T, and states whose shapes differ, raise ValueError in every method.

    >>> process = GaussianDiffusion([0.1, 0.2])
    >>> process.timesteps, process.alpha_bar.tolist()
    (2, [1.0, 0.9, 0.7200000000000001])
    """

    def __init__(self, betas: Tensor | Sequence[float], network_times: Tensor | None = None) -> None:
        betas = torch.as_tensor(betas, dtype=torch.float64)
        if betas.ndim != 1 or len(betas) < 1:
            raise ValueError(f"betas must be [T], got shape {tuple(betas.shape)}")
        if not ((betas > 0) & (betas < 1)).all():
            raise ValueError("every β_t must lie strictly between 0 and 1")
        self.timesteps = len(betas)
        self.beta = torch.cat([torch.zeros(1, dtype=torch.float64), betas])
        self.alpha = 1 - self.beta
        self.alpha_bar = self.alpha.cumprod(0)
        # 1 − ᾱ_1 may be 1e-4: formed in float32 from ᾱ it would lose four digits, so it is a table too.
        self.sqrt_alpha, self.sqrt_beta = self.alpha.sqrt(), self.beta.sqrt()
        self.sqrt_alpha_bar, self.noise_variance = self.alpha_bar.sqrt(), 1 - self.alpha_bar
        self.noise_std = self.noise_variance.sqrt()
        previous = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])
        one_minus = self.noise_variance.clamp(min=torch.finfo(torch.float64).tiny)
        # Posterior q(x_{t−1} | x_t, x_0): Ho et al. 2020, eq. 7. At t = 1 it is the point x_0.
        self.posterior_variance = self.beta * (1 - previous) / one_minus
        self.posterior_x0 = previous.sqrt() * self.beta / one_minus
        self.posterior_xt = self.sqrt_alpha * (1 - previous) / one_minus
        # The reverse mean is (x_t − mean_eps·ε)/√α_t; c_t turns an error in ε into one in that mean.
        self.mean_eps = self.beta / one_minus.sqrt()
        self.eps_to_mean = self.mean_eps / self.sqrt_alpha
        self.network_times = torch.arange(len(betas)) if network_times is None else network_times
        self._cast: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def table(self, name: str, t: Tensor | int, like: Tensor) -> Tensor:
        """Entries ``t`` of table ``name`` in the dtype and on the device of ``like``, ready to broadcast."""
        key = (name, like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = onto(like.device, getattr(self, name).to(like.dtype))
        values = self._cast[key][t]
        return values.view(-1, *[1] * (like.ndim - 1)) if values.ndim else values

    def _check(self, t: Tensor | int, *states: Tensor) -> None:
        """Refuse times outside 0…T and states whose shapes would broadcast to something else."""
        shapes = {tuple(x.shape) for x in states}
        if len(shapes) > 1:
            raise ValueError(f"states and noise must have one shape, got {sorted(shapes)}")
        if isinstance(t, torch.Tensor) and t.shape not in {(), (len(states[0]),)}:
            raise ValueError(f"t must be an int or [N] = [{len(states[0])}], got shape {tuple(t.shape)}")
        # On a GPU the look would wait for the device; there an index out of range is torch's own error.
        if not isinstance(t, torch.Tensor) or (t.device.type == "cpu" and t.numel()):
            low, high = (int(t.min()), int(t.max())) if isinstance(t, torch.Tensor) else (t, t)
            if low < 0 or high > self.timesteps:
                raise ValueError(f"times lie in 0…{self.timesteps}, got {low}…{high}")

    def marginal(self, x0: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean [N, ...] and variance of q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I) (Ho et al. 2020, eq. 4).

        >>> mean, variance = GaussianDiffusion([0.36]).marginal(torch.ones(3, 2), 1)
        >>> mean.shape, mean[0, 0].item(), round(variance.item(), 4)
        (torch.Size([3, 2]), 0.800000011920929, 0.36)
        """
        self._check(t, x0)
        return self.table("sqrt_alpha_bar", t, x0) * x0, self.table("noise_variance", t, x0)

    def noise(self, x0: Tensor, t: Tensor | int, eps: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε."""
        self._check(t, x0, eps)
        return self.table("sqrt_alpha_bar", t, x0) * x0 + self.table("noise_std", t, x0) * eps

    def noise_of(self, x0: Tensor, x_t: Tensor, t: Tensor | int) -> Tensor:
        """The ε with x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε: what a network at x_t should predict."""
        self._check(t, x0, x_t)
        return (x_t - self.table("sqrt_alpha_bar", t, x0) * x0) / self.table("noise_std", t, x0)

    def predict_x0(self, x_t: Tensor, t: Tensor | int, eps: Tensor) -> Tensor:
        """x̂_0 = (x_t − √(1 − ᾱ_t) ε)/√ᾱ_t."""
        self._check(t, x_t, eps)
        return (x_t - self.table("noise_std", t, x_t) * eps) / self.table("sqrt_alpha_bar", t, x_t)

    def posterior(self, x0: Tensor, x_t: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean and variance β̃_t of q(x_{t−1} | x_t, x_0) (Ho et al. 2020, eq. 6 and 7).

        >>> mean, variance = GaussianDiffusion([0.1, 0.2]).posterior(torch.ones(1, 1), torch.zeros(1, 1), 1)
        >>> mean.item(), variance.item()  # at t = 1 it is x_0 itself
        (1.0, 0.0)
        """
        self._check(t, x0, x_t)
        mean = self.table("posterior_x0", t, x_t) * x0 + self.table("posterior_xt", t, x_t) * x_t
        return mean, self.table("posterior_variance", t, x_t)

    def reverse_mean(self, x_t: Tensor, t: Tensor | int, eps: Tensor) -> Tensor:
        """μ(x_t, ε) = (x_t − β_t/√(1 − ᾱ_t) · ε)/√α_t: the posterior mean with x̂_0 in place of x_0."""
        self._check(t, x_t, eps)
        return (x_t - self.table("mean_eps", t, x_t) * eps) / self.table("sqrt_alpha", t, x_t)

    def bridge(self, x_s: Tensor, x_t: Tensor, s: int, r: int, t: int) -> tuple[Tensor, float]:
        """Mean and variance of q(x_r | x_s, x_t) for s < r < t; x_0's posterior is its case s = 0.

        >>> process = GaussianDiffusion([0.1, 0.2])
        >>> x_0, x_2 = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
        >>> mean, variance = process.bridge(x_0, x_2, 0, 1, 2)
        >>> torch.allclose(mean, process.posterior(x_0, x_2, 2)[0])
        True
        """
        if not (0 <= s < r < t <= self.timesteps):
            raise ValueError(f"a bridge needs 0 ≤ s < r < t ≤ T, got s={s}, r={r}, t={t}")
        if x_s.shape != x_t.shape:
            raise ValueError(f"the ends of a bridge have shapes {tuple(x_s.shape)} and {tuple(x_t.shape)}")
        early, late = self.alpha_bar[r] / self.alpha_bar[s], self.alpha_bar[t] / self.alpha_bar[r]
        v_early, v_late = 1 - early, 1 - late
        total = v_late + late * v_early
        mean = (early.sqrt() * v_late / total).item() * x_s + (late.sqrt() * v_early / total).item() * x_t
        return mean, (v_early * v_late / total).item()

    def log_prior(self, x_T: Tensor) -> Tensor:
        """[N]: log N(x_T; 0, I)."""
        return normal_log_prob(x_T, x_T.new_zeros(()), x_T.new_zeros(()))

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor | int) -> Tensor:
        """[N]: log q(x_t | x_{t−1})."""
        self._check(t, x_prev, x_t)
        mean = self.table("sqrt_alpha", t, x_t) * x_prev
        return normal_log_prob(x_t, mean, self.table("beta", t, x_t).log())

    def sample_trajectory(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """[T+1, B, ...]: ONE joint noising path x_0, x_1, … x_T of each image.

        >>> process, x0 = GaussianDiffusion([0.1, 0.2]), torch.zeros(5, 1, 8, 8)
        >>> process.sample_trajectory(x0, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 5, 1, 8, 8])
        """
        states = x0.new_empty((self.timesteps + 1, *x0.shape))
        if x0.device.type == "cpu":
            torch.randn(states[1:].shape, generator=generator, dtype=x0.dtype, out=states[1:])
        else:
            states[1:] = onto(x0.device, torch.randn(states[1:].shape, generator=generator, dtype=x0.dtype))
        return self._drive(x0, states)

    def trajectory_of(self, x0: Tensor, noise: Tensor) -> Tensor:
        """The joint path [T+1, B, ...] that ``noise`` [T, B, ...] drives: x_t = √α_t x_{t−1} + √β_t ε_t."""
        if noise.shape != (self.timesteps, *x0.shape):
            raise ValueError(
                f"noise must be [T, *x0.shape] = {(self.timesteps, *x0.shape)}, got {tuple(noise.shape)}"
            )
        return self._drive(x0, torch.cat([x0[None], noise]))

    def _drive(self, x0: Tensor, states: Tensor) -> Tensor:
        """Turn ``states`` [T+1, B, ...], noise but for entry 0, into the path from x0 in place: with a noise
        tensor of its own and a list of states beside it, memory would peak at three times the path."""
        states[0] = x0
        for t in range(1, self.timesteps + 1):
            drift, spread = self.table("sqrt_alpha", t, x0), self.table("sqrt_beta", t, x0)
            states[t].mul_(spread).add_(drift * states[t - 1])
        return states

    def sample_bridge(self, x_s: Tensor, x_t: Tensor, s: int, t: int, generator: torch.Generator) -> Tensor:
        """[t−s+1, B, ...]: one joint path x_s, …, x_t of q given both ends."""
        if not 0 <= s < t <= self.timesteps:
            raise ValueError(f"a bridge needs 0 ≤ s < t ≤ T, got s={s}, t={t}")
        states = [x_s]
        for r in range(s + 1, t):
            mean, variance = self.bridge(states[-1], x_t, r - 1, r, t)
            noise = onto(x_s.device, torch.randn(x_s.shape, generator=generator, dtype=x_s.dtype))
            states.append(mean + variance**0.5 * noise)
        return torch.stack([*states, x_t])

    def respaced(self, steps: int) -> GaussianDiffusion:
        """The process on ``steps`` of our T times (always T itself): the same marginals at those times.

        >>> short = GaussianDiffusion([0.1, 0.2, 0.3, 0.4]).respaced(2)
        >>> short.timesteps, short.network_times.tolist()  # x_2 and x_4, which the network counts from 0
        (2, [1, 3])
        """
        if not 1 <= steps <= self.timesteps:
            raise ValueError(f"cannot keep {steps} of {self.timesteps} steps")
        times = torch.linspace(0, self.timesteps, steps + 1, dtype=torch.float64).round().long()
        alpha_bar = self.alpha_bar[times]
        return GaussianDiffusion(1 - alpha_bar[1:] / alpha_bar[:-1], self.network_times[times[1:] - 1])
