"""Control variates for gradients of the form E[∇f + f ∇log P_F], independent of what f is.

Both terms are expectations over trajectories of the policy itself, and each has its own control variate (da Silva et
al. 2024, arXiv 2410.09355, §4):

    second term  f_i ∇log P_F(τ_i)   minus the mean of the others' f_j: *leave-one-out*, unbiased (their eq. 7);
    first term   ∇f_i                minus a* ∇log P_F(τ_i), a *score function*, whose mean is zero, with

        a* = ⟨Σ ∇f, Σ ∇log P_F⟩ / (ε + ‖Σ ∇log P_F‖²),

the batch's estimate of the best scalar, from sums over the batch: no gradient of a single trajectory is needed. It
comes from the same batch, so it brings a bias that vanishes with the batch; the paper calls it negligible.

Where ∇f = k f ∇log P_F, as for the α-divergences, the two terms are one, (1+k) f ∇log P_F, and leave-one-out on the
second alone over-corrects. ``combined`` is our own: one leave-one-out baseline for the sum.
"""

import torch

__all__ = ["CONTROL_VARIATES", "combined", "others", "surrogate"]

CONTROL_VARIATES = ("none", "leave_one_out", "score", "both", "combined")
EPS = 1e-8  # assumed: the text that we hold does not give it


def surrogate(f, log_pf, control_variate="leave_one_out", parameters=None):
    """[]: a scalar whose gradient is the batch's estimate of E[∇f + f ∇log P_F].

    f, log_pf: [N], with their graphs; parameters: what the score function is taken of, for ``score`` and ``both``.
    Raises ValueError for an unknown control variate, missing parameters, or fewer than two trajectories where the
    others of a trajectory are averaged.
    """
    weight = f.detach()
    if control_variate in ("leave_one_out", "both"):
        weight = weight - others(weight)
    first = f.mean()
    if control_variate in ("score", "both"):
        first = first - _best_scalar(f, log_pf, parameters) * _silent(log_pf.mean())
    elif control_variate not in ("none", "leave_one_out"):
        raise ValueError(f"no control variate {control_variate!r}; there are {', '.join(CONTROL_VARIATES)}")
    return first + _silent((weight * log_pf).mean())


def combined(weight, log_pf):
    """[]: a scalar whose gradient is the batch's estimate of E[h ∇log P_F], h = ``weight`` [N], with one
    leave-one-out baseline."""
    weight = weight.detach()
    return _silent(((weight - others(weight)) * log_pf).mean())


def others(values, dim=0):
    """Of the same shape: for each value the mean of the *other* ones along ``dim``, the leave-one-out baseline."""
    count = values.shape[dim]
    if count < 2:
        raise ValueError(f"leave-one-out needs at least two trajectories, got {count}")
    return (values.sum(dim, keepdim=True) - values) / (count - 1)


def _silent(x):
    """x without its value: 0 whose gradient is that of x."""
    return x - x.detach()


def _best_scalar(f, log_pf, parameters):
    """[]: a* from the batch's sums."""
    parameters = [p for p in parameters or () if p.requires_grad]
    if not parameters:
        raise ValueError("the score-function control variate needs the policy's parameters")
    if not f.requires_grad:  # then ∇f = 0, and so is the best scalar
        return torch.zeros((), dtype=f.dtype, device=f.device)
    of_f, of_score = (
        torch.autograd.grad(x.sum(), parameters, retain_graph=True, allow_unused=True) for x in (f, log_pf)
    )
    inner = sum((a * b).sum() for a, b in zip(of_f, of_score) if a is not None and b is not None)
    return inner / (EPS + sum(b.square().sum() for b in of_score if b is not None))
