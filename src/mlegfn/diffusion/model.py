"""The generating process P_F of a diffusion model, over a fixed noising process P_B."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mlegfn.diffusion.decoder import discretised_log_prob
from mlegfn.diffusion.precision import check_precision
from mlegfn.diffusion.process import normal_log_prob
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.randomness import onto

if TYPE_CHECKING:
    from mlegfn.diffusion.process import GaussianDiffusion

__all__ = ["DenoisingModel", "Prediction"]


@dataclass
class Prediction:
    """What the network says at x_t: ε_θ [N, ...], and log σ_t² [N, ...] or broadcastable."""

    eps: torch.Tensor
    log_variance: torch.Tensor


class DenoisingModel:
    """P_F(x_{t−1} | x_t) = N(μ_θ(x_t, t), σ_t² I) with the ε-parameterisation (Ho et al. 2020, eq. 11).

    **Time.** Steps are t = 1…T wherever this class takes a ``t``: x_0 is the data, x_T the noise. The *network* is called
    with time t − 1, int64 in 0…T−1, as diffusers counts: at x_1 it gets 0. (On a ``respaced`` chain it gets the times of
    the long chain that it was trained on, ``process.network_times``.)

    States are float32 or float64. Half precision is for inside the network, by ``torch.autocast``: log-probabilities of
    half-precision states are off by whole nats. Integer pixels are scaled to [−1, 1] first. Both are refused with a
    ValueError where the network is evaluated.

    network(x [N, ...], time int64 [N]) → ε_θ [N, ...], or [N, 2C, ...] with learned variances.
    log_variance: [T+1] table (``variances``), or None: learned, as the interpolation
        log σ² = v log β_t + (1 − v) log β̃_t of Nichol & Dhariwal 2021, eq. 15.
    levels: number of grey values; the last step is then the discretised decoder and log w bounds a
        log-probability. None: continuous data, a Gaussian to the end, log w bounds a log-density.
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        process: "GaussianDiffusion",
        log_variance: torch.Tensor | None = None,
        levels: int | None = None,
        decoder: str = "exact",
    ) -> None:
        self.network, self.process = network, process
        self.log_variance, self.levels, self.decoder = log_variance, levels, decoder
        self.timesteps = process.timesteps
        self._tables: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}
        self.every_row = False  # what a GPU does in ``_where_first``, wherever it is

    def with_process(
        self, process: "GaussianDiffusion", log_variance: torch.Tensor | None
    ) -> "DenoisingModel":
        """The same network on another chain (``respaced``), with that chain's variances."""
        return DenoisingModel(self.network, process, log_variance, self.levels, self.decoder)

    def evaluate(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The network's raw output at states x_t [N, ...], t [N] in 1…T: one evaluation a state.

        Raises ValueError for states that are neither float32 nor float64.
        """
        check_precision(x_t, "x_t")
        return self.network(x_t, self.network_time(t))

    def interpret(self, out: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor) -> Prediction:
        """The ``Prediction`` that ``evaluate``'s output stands for on *this* chain."""
        if self.log_variance is not None:
            return Prediction(out, _columns(self._lookup("fixed", t, x_t), x_t))
        eps, v = out.chunk(2, dim=1)
        large = _columns(self._lookup("large", t, x_t), x_t)
        small = _columns(self._lookup("small", t, x_t), x_t)
        return Prediction(eps, small + (v + 1) / 2 * (large - small))

    def predict(self, x_t: torch.Tensor, t: torch.Tensor) -> Prediction:
        """``interpret`` of ``evaluate``."""
        return self.interpret(self.evaluate(x_t, t), x_t, t)

    def network_time(self, t: torch.Tensor) -> torch.Tensor:
        """What the network calls the steps t [N] of this chain (0-based)."""
        return self._lookup("time", t, t)

    def _lookup(self, name: str, t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        key = (name, like.dtype, like.device)
        if key not in self._tables:
            if name == "time":
                table = torch.cat([torch.zeros(1, dtype=torch.long), self.process.network_times])
            elif name == "fixed":
                # ``interpret`` has looked whether there is one.
                table = self.log_variance.to(like.dtype)  # type: ignore[union-attr]
            elif name == "large":
                table = self.process.beta.clamp(min=1e-20).log().to(like.dtype)
            else:
                table = fixed_log_variance(self.process, name).to(like.dtype)
            self._tables[key] = onto(like.device, table)
        return self._tables[key][t]

    def log_prior(self, x_T: torch.Tensor) -> torch.Tensor:
        return self.process.log_prior(x_T)

    def log_pb(self, x_prev: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.process.log_pb(x_prev, x_t, t)

    def log_pf(
        self, x_prev: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor, prediction: Prediction | None = None
    ) -> torch.Tensor:
        """[N], nats: log P_F(x_{t−1} | x_t); give ``prediction`` to reuse an evaluation."""
        prediction = prediction or self.predict(x_t, t)
        mean = self.process.reverse_mean(x_t, t, prediction.eps)
        return self._log_prob(x_prev, mean, prediction.log_variance, t)

    def _log_prob(
        self, x_prev: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        log_prob = normal_log_prob(x_prev, mean, log_variance)
        if self.levels is None:
            return log_prob
        return self._where_first(t, log_prob, self._decoded, x_prev, mean, log_variance.expand_as(mean))

    def _decoded(self, x0: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        # Only called where there are levels.
        return discretised_log_prob(x0, mean, log_variance, self.levels, self.decoder)  # type: ignore[arg-type]

    def _where_first(
        self,
        t: torch.Tensor,
        values: torch.Tensor,
        function: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        x0: torch.Tensor,
        mean: torch.Tensor,
        log_variance: torch.Tensor,
    ) -> torch.Tensor:
        """``values`` [N], but ``function`` of the rows where t = 1.

        Looking which rows these are makes the host wait for a GPU, so there ``function`` does all of them; those
        of the others are moved to x_0 itself first, where it is finite, or they would spoil the gradient.
        """
        if x0.is_cuda or self.every_row:
            first = t == 1
            mean = torch.where(_columns(first, x0), mean, x0)
            return torch.where(first, function(x0, mean, log_variance), values)
        first = (t == 1).nonzero().squeeze(1)
        if len(first) == 0:
            return values
        return values.index_copy(0, first, function(x0[first], mean[first], log_variance[first]))

    def bound_terms(
        self,
        x0: torch.Tensor,
        x_t: torch.Tensor,
        t: torch.Tensor,
        prediction: Prediction | None = None,
        clip: bool = False,
        detach_mean: bool = False,
    ) -> torch.Tensor:
        """[N], nats: L_{t−1} = KL(q(x_{t−1}|x_t,x_0) ‖ P_F(·|x_t)); for t = 1, L_0 = −log P_F(x_0|x_1).

        Ho et al. 2020, eq. 5. ``clip``: x̂_0 is first clipped to [−1, 1], as in DDPM's evaluation (then
        P_F is another model). ``detach_mean``: no gradient through μ_θ (for L_hybrid).
        """
        prediction = prediction or self.predict(x_t, t)
        process, eps = self.process, prediction.eps.detach() if detach_mean else prediction.eps
        log_variance = prediction.log_variance
        predicted_x0 = process.predict_x0(x_t, t, eps)
        if clip:
            predicted_x0 = predicted_x0.clamp(-1, 1)
        # μ̃ − μ_θ = coefficient · (x_0 − x̂_0): the x_t parts of both means are equal.
        offset = process.table("posterior_x0", t, x_t) * (x0 - predicted_x0)
        variance = process.table("posterior_variance", t, x_t)
        ratio = variance * torch.exp(-log_variance)
        terms = 0.5 * (ratio - 1 - ratio.clamp(min=1e-30).log() + offset**2 * torch.exp(-log_variance))
        terms = terms.expand_as(x_t).flatten(1).sum(1)
        decoder = normal_log_prob if self.levels is None else self._decoded
        return self._where_first(
            t,
            terms,
            lambda *rows: -decoder(*rows),
            x0,
            x0 - offset,  # at t = 1 the posterior mean is x_0 itself
            log_variance.expand_as(x_t),
        )

    def sample_pb(self, x0: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self.process.sample_trajectory(x0, generator)

    @torch.no_grad()
    def sample_pf(
        self,
        shape: Sequence[int],
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        keep: Iterable[int] | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[T+1, N, ...]: one path of P_F from each of N draws of the prior, index t is x_t; x_0 is the mean
        of the last step, without noise, as in DDPM. ``keep``: only the states at these times, in this order."""
        x = torch.randn(shape, generator=generator).to(device)
        wanted = range(self.timesteps + 1) if keep is None else [int(t) for t in keep]
        states = {self.timesteps: x}
        for step in range(self.timesteps, 0, -1):
            t = torch.full((len(x),), step, device=device)
            prediction = self.predict(x, t)
            x = self.process.reverse_mean(x, t, prediction.eps)
            if step > 1:
                noise = onto(device, torch.randn(shape, generator=generator))
                x = x + torch.exp(0.5 * prediction.log_variance) * noise
            if step - 1 in wanted:
                states[step - 1] = x
        return torch.stack([states[t] for t in wanted])


def _columns(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
