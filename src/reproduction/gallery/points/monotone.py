"""A noise schedule that is learned: the monotone network of variational diffusion models."""

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["MonotoneSchedule", "betas_of", "gammas_of"]

# Adam moves a parameter by its learning rate a step, whatever the gradient. At a rate that suits the weights of a
# network it would take thousands of steps to move a schedule, so these parameters are counted in tenths.
PACE = 10.0
SLOPE = 2.0  # of the sigmoids at the start, in units of their distance
START = -4.0  # softplus of this is each sigmoid's share at the start: the schedule is then nearly straight


def gammas_of(betas):
    """[T] float64: γ_t = log((1 − ᾱ_t)/ᾱ_t) of β_1 … β_T, minus the log of the signal-to-noise ratio."""
    log_alpha_bar = torch.log1p(-torch.as_tensor(betas, dtype=torch.float64)).cumsum(0)
    return torch.log(-torch.expm1(log_alpha_bar)) - log_alpha_bar


def betas_of(gammas):
    """[T]: β_t = 1 − ᾱ_t/ᾱ_{t−1} of γ_1 < … < γ_T, with ᾱ_t = sigmoid(−γ_t) and ᾱ_0 = 1; the inverse of ``gammas_of``.

    Formed without cancellation, and differentiable.
    """
    log_alpha_bar = F.logsigmoid(-gammas)
    return -torch.expm1(torch.diff(log_alpha_bar, prepend=log_alpha_bar.new_zeros(1)))


class MonotoneSchedule(nn.Module):
    """γ_1 < … < γ_T by construction (D. Kingma et al. 2021, arXiv 2107.00630, appendix H):

        γ̃(u) = l_1(u) + l_3(sigmoid(l_2(l_1(u)))),  u = (t − 1)/(T − 1),
        γ_t = γ_1 + (γ_T − γ_1) (γ̃(u) − γ̃(0))/(γ̃(1) − γ̃(0)),

    where the weights of l_1, l_2, l_3 are positive, as softplus of the parameters. The biases of l_1 and l_3 and the
    weight of l_1 cancel in γ_t, so u is what l_2 reads. The ends γ_1 and γ_T are learned too: in the bound they are
    the choice between what the last step and the prior cost, and what the steps between them cost.

    units: width of l_2. ``first``, ``last``: the ends at the start, where the schedule is nearly straight. ValueError
    for fewer than two steps, fewer than one unit, or ends that do not rise.
    """

    def __init__(self, timesteps, units, first, last):
        super().__init__()
        if timesteps < 2 or units < 1 or not first < last:
            raise ValueError(
                f"a learned schedule needs two steps, a unit and γ_1 < γ_T, got {timesteps}, {units}, {first} and {last}"
            )
        centres = (torch.arange(units) + 0.5) / units
        slope = torch.full((units,), SLOPE * units)
        self.register_buffer("place", torch.linspace(0, 1, timesteps, dtype=torch.float64), persistent=False)
        self.slope = nn.Parameter(inverse_softplus(slope) / PACE)
        self.bias = nn.Parameter(-slope * centres / PACE)
        self.share = nn.Parameter(torch.full((units,), START / PACE))
        self.first = nn.Parameter(torch.tensor(float(first) / PACE))
        self.span = nn.Parameter(inverse_softplus(torch.tensor(float(last - first))) / PACE)

    def gammas(self):
        """[T] float64, rising."""
        slope, share = (F.softplus(PACE * raw.double()) for raw in (self.slope, self.share))
        inner = torch.sigmoid(self.place[:, None] * slope + PACE * self.bias.double())
        curve = self.place + inner @ share
        curve = (curve - curve[0]) / (curve[-1] - curve[0])
        return PACE * self.first.double() + F.softplus(PACE * self.span.double()) * curve

    def betas(self):
        """[T] float64, each in (0, 1)."""
        return betas_of(self.gammas())


def inverse_softplus(y):
    """x with softplus(x) = y > 0."""
    return y + torch.log(-torch.expm1(-y))
