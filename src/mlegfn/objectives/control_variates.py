"""Control variates for gradients of the form E[∇f + f ∇log P_F], independent of what f is.

Both terms are expectations over trajectories of the policy itself, and each has its own control variate (da Silva et
al. 2024, arXiv 2410.09355, §4):

    second term  f_i ∇log P_F(τ_i)   minus the mean of the others' f_j: *leave-one-out*, unbiased (their eq. 7);
    first term   ∇f_i                minus a ∇log P_F(τ_i), a *score function*, whose mean is zero. Best is
                                     a* = E⟨∇f, ∇log P_F⟩ / E‖∇log P_F‖² (their Prop. 2).

Neither may cost the gradient of a single trajectory, so a* is estimated by sums over the batch, with signs σ_i:

    a = ⟨Σ σ_i ∇f_i, Σ σ_i ∇log P_F(τ_i)⟩ / (ε + ‖Σ σ_i ∇log P_F(τ_i)‖²)

``score``, ``both``: σ_i = 1, the paper's (our reading). E ∇log P_F = 0, so both products have the right mean. But
Σ ∇f grows like N and S = Σ ∇log P_F like √N only, so a is of order √N, and a S is the projection of Σ ∇f on a random
direction: its share of the *mean* gradient is lost, a bias that does not shrink with N, and the variance grows.

``score_signed``, ``both_signed``: σ_i = +1, −1, +1, …, our own. The mean of ∇f cancels, both sums are of order √N, and
a stays of order 1, its noise given by how many directions the gradients have. Independent trajectories do not know
their places, so fixed signs are as good as random ones (Hutchinson's) and need no generator; and as half of them are
−1, the signed sums are uncorrelated with S, so the bias of a S vanishes with the batch. A batch that was *sorted*, or
made in pairs, must be shuffled first.

Where ∇f = k f ∇log P_F, as for the α-divergences, the two terms are one, (1+k) f ∇log P_F, and leave-one-out on the
second alone over-corrects. Where ∇f = ∇log P_F, as for reverse KL, the first term is noise of mean zero, which
leave-one-out on the second keeps. ``combined`` is our own: one leave-one-out baseline for the sum, without terms of
mean zero. It is what ``divergences`` use unless told otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

__all__ = ["CONTROL_VARIATES", "best_scalar", "combined", "others", "surrogate"]

CONTROL_VARIATES = ("none", "leave_one_out", "score", "both", "score_signed", "both_signed", "combined")
EPS = 1e-8  # assumed: the text that we hold does not give it


def surrogate(
    f: Tensor,
    log_pf: Tensor,
    control_variate: str,
    parameters: Iterable[Tensor] | None = None,
) -> Tensor:
    """[]: a scalar whose gradient is the batch's estimate of E_{τ~P_F}[∇f + f ∇log P_F]; its value means nothing.

    Control variates of da Silva et al. 2024 (arXiv 2410.09355, §4); this module's docstring has the equations.

    :param f: [N], with its graph, in the unit of what is differentiated
    :param log_pf: [N], nats; log P_F(τ) of trajectories of the policy itself, with their graph
    :param control_variate: a name of ``CONTROL_VARIATES`` other than ``combined``, which has a function of its own
    :param parameters: what the score function is taken of, for ``score…`` and ``both…``. They may be the last layer's
        alone, which saves most of two backward passes; the scalar is then the best for that part of the gradient
    :raises ValueError: for an unknown control variate, missing parameters, or fewer than two trajectories where the
        others of a trajectory are averaged

    >>> import torch
    >>> log_pf = torch.zeros(2, requires_grad=True)
    >>> surrogate(torch.tensor([1.0, 3.0]), log_pf, "leave_one_out").backward()
    >>> log_pf.grad  # half of 1 − 3 and of 3 − 1
    tensor([-1.,  1.])
    """
    weight = f.detach()
    if control_variate in ("leave_one_out", "both", "both_signed"):
        weight = weight - others(weight)
    first = f.mean()
    if control_variate in ("score", "both", "score_signed", "both_signed"):
        scalar = best_scalar(f, log_pf, parameters, signed=control_variate.endswith("signed"))
        first = first - scalar * _silent(log_pf.mean())
    elif control_variate not in ("none", "leave_one_out"):
        raise ValueError(f"no control variate {control_variate!r}; there are {', '.join(CONTROL_VARIATES)}")
    return first + _silent((weight * log_pf).mean())


def combined(weight: Tensor, log_pf: Tensor) -> Tensor:
    """[]: a scalar whose gradient is the batch's estimate of E[h ∇log P_F], with one leave-one-out baseline; value 0.

    Unbiased. Our own: the leave-one-out of da Silva et al. 2024 (arXiv 2410.09355, eq. 7) for both terms at once.

    :param weight: [N]; h, of which no gradient is taken
    :param log_pf: [N], nats; log P_F(τ) of N ≥ 2 trajectories of the policy itself, with their graph
    :raises ValueError: for fewer than two trajectories

    >>> import torch
    >>> log_pf = torch.zeros(2, requires_grad=True)
    >>> combined(torch.tensor([1.0, 3.0]), log_pf).backward()
    >>> log_pf.grad
    tensor([-1.,  1.])
    """
    weight = weight.detach()
    return _silent(((weight - others(weight)) * log_pf).mean())


def others(values: Tensor, dim: int = 0) -> Tensor:
    """Of the same shape and unit: for each value the mean of the *other* ones along ``dim``, the leave-one-out baseline.

    Kool et al. 2019. Raises ValueError for fewer than two values.

    >>> import torch
    >>> others(torch.tensor([1.0, 2.0, 6.0]))
    tensor([4.0000, 3.5000, 1.5000])
    """
    count = values.shape[dim]
    if count < 2:
        raise ValueError(f"leave-one-out needs at least two trajectories, got {count}")
    return (values.sum(dim, keepdim=True) - values) / (count - 1)


def _silent(x: Tensor) -> Tensor:
    """x without its value: 0 whose gradient is that of x."""
    return x - x.detach()


def best_scalar(
    f: Tensor, log_pf: Tensor, parameters: Iterable[Tensor] | None, signed: bool = True
) -> Tensor:
    """[]: a, the batch's estimate of the scalar that takes most variance from ∇f − a ∇log P_F; the unit of f per nat.

    a* = E⟨∇f, ∇log P_F⟩ / E‖∇log P_F‖² (da Silva et al. 2024, arXiv 2410.09355, Prop. 2).

    :param f: [N], with its graph
    :param log_pf: [N], nats, with its graph
    :param parameters: what gradients are taken of
    :param signed: whether the batch is summed with signs +1, −1, … (this module's docstring says why)
    :raises ValueError: without parameters

    >>> import torch
    >>> theta = torch.zeros(2, requires_grad=True)
    >>> log_pf = theta.log_softmax(0)
    >>> round(best_scalar(3 * log_pf, log_pf, [theta]).item(), 4)  # ∇f = 3 ∇log P_F
    3.0
    """
    inner, square = products(f, log_pf, parameters, signed)
    return inner / (EPS + square)


def products(
    f: Tensor, log_pf: Tensor, parameters: Iterable[Tensor] | None, signed: bool = True
) -> tuple[Tensor, Tensor]:
    """[], []: estimates of N E⟨∇f, ∇log P_F⟩ and of N E‖∇log P_F‖², unbiased for any N."""
    parameters = [p for p in parameters or () if p.requires_grad]
    if not parameters:
        raise ValueError("the score-function control variate needs the policy's parameters")
    if not f.requires_grad:  # ∇f = 0
        f = 0 * log_pf
    sign = torch.ones_like(log_pf.detach())
    if signed:
        sign[1::2] = -1
    # Two calls: one with is_grads_batched is slower.
    of_f, of_score = (
        torch.autograd.grad((sign * x).sum(), parameters, retain_graph=True, materialize_grads=True)
        for x in (f, log_pf)
    )
    # There is a parameter, so no sum is the 0 that it starts from.
    return sum((a * b).sum() for a, b in zip(of_f, of_score)), sum(b.square().sum() for b in of_score)  # type: ignore[return-value]
