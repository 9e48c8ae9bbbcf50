"""The GFlowNet over partial strings: P_F fills an empty entry, P_B empties a filled one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlegfn.bits.entries import EntryLogits

__all__ = ["EMPTY", "BitFilling"]

EMPTY = -1


class BitFilling(nn.Module):
    """trajectory.py's ``MarkovPair`` of strings x int64 [N, D] of −1 (empty), 0 and 1. T = D.

    x_T is empty and x_0 full. P_F(x_{t−1}|x_t) picks one of the t empty entries *and* its bit, P_B(x_t|x_{t−1}) one
    of the T−t+1 filled ones, so a trajectory that ends in x is an order of its entries:

        log P_F = log softmax over the empty entries (u)_i + log σ(±v_i),    log P_B = log softmax over the filled (r)_i

    u, v and r are functions of the state that the policy stands at. u and v say the same as one logit for each
    entry and bit, (u_i + log σ(±v_i)): EB-GFN's 64.

    :param forward: x [N, D] → [N, 2, D], u and v
    :param backward: x [N, D] → [N, 1, D], r; None for a P_B without parameters
    :param order: None, or int64 [D], for each entry the step 1…T at which P_B empties it, always; then there is one
        trajectory, P_F picks the same entries, and log w is log p(x). Without it and ``backward`` P_B is uniform, all
        orders are equally likely.
    """

    order: Tensor | None

    def __init__(
        self,
        length: int,
        forward: nn.Module,
        backward: nn.Module | None = None,
        order: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.timesteps, self.shape = length, (length,)
        self.policy_f, self.policy_b = forward, backward
        if order is not None and backward is not None:
            raise ValueError("P_B is either a network or a fixed order")
        self.register_buffer("order", order)

    @property
    def uniform(self) -> bool:
        """Whether P_B is uniform."""
        return self.policy_b is None and self.order is None

    # What a step is: ``steps`` [N, D] int64 holds, for each entry, the t at which P_B empties it, 1…T.

    @staticmethod
    def state(x: Tensor, steps: Tensor, t: Tensor) -> Tensor:
        """x_t [N, D] of strings ``x`` whose entries are emptied at ``steps``; t int64 [N]."""
        return torch.where(steps > t[:, None], x, EMPTY)

    def fills(self, x: Tensor, x_t: Tensor) -> Tensor:
        """[N, D]: log P_F of filling each empty entry of ``x_t`` with its bit of ``x``; −∞ where it is filled."""
        entry, bit = self.policy_f(x_t).unbind(1)
        entry = self._entries(entry, x_t, fill=True).log_softmax(1)
        return entry + F.logsigmoid((2 * x - 1) * bit)

    def _entries(self, logits: Tensor, x: Tensor, fill: bool) -> Tensor:
        """Logits [N, D] of the entries of ``x``, −∞ where the step cannot be: the filled ones if it is to fill."""
        closed = (x != EMPTY) == fill
        if self.order is None:
            return logits.masked_fill(closed, -math.inf)
        turn = torch.where(closed, -1, self.order if fill else self.timesteps - self.order)
        only = turn == turn.amax(1, keepdim=True)
        return torch.zeros_like(logits).masked_fill(~only, -math.inf)

    def empties(self, x_prev: Tensor) -> Tensor:
        """[N, D]: log P_B of emptying each entry of ``x_prev``; −∞ where it is empty."""
        logits = (
            torch.zeros(x_prev.shape, dtype=self._dtype)
            if self.policy_b is None
            else self.policy_b(x_prev)[:, 0]
        )
        return self._entries(logits, x_prev, fill=False).log_softmax(1)

    def orders(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """[N, D] int64: the ``steps`` of one trajectory of P_B from each full string x, without a gradient."""
        if self.order is not None:
            return self.order.expand(x.shape)
        if self.policy_b is None:
            return torch.rand(x.shape, generator=generator).argsort(1) + 1
        if isinstance(self.policy_b, EntryLogits):
            return self.policy_b.orders(len(x), generator)
        noise = torch.rand(self.timesteps, *x.shape, generator=generator).clamp_(min=1e-30)
        noise = -(-noise.log_()).log_()  # Gumbel: softmax(r) is drawn by the largest of r + noise
        state, steps = x.clone(), torch.zeros_like(x)
        with torch.no_grad():
            for t in range(1, self.timesteps + 1):
                logits = self.policy_b(state)[:, 0] + noise[t - 1]
                place = logits.masked_fill_(state == EMPTY, -math.inf).argmax(1, keepdim=True)
                state.scatter_(1, place, EMPTY)
                steps.scatter_(1, place, t)
        return steps

    # The interface.

    def log_prior(self, x_T: Tensor) -> Tensor:
        return self._where((x_T == EMPTY).all(1))

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self._step(self.fills(x_prev, x_t), x_prev, x_t, t)

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self._step(self.empties(x_prev), x_prev, x_t, t)

    def _step(self, log_probs: Tensor, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The entry of ``log_probs`` [N, D] in which x_prev is x_t with one more filled; −∞ where it is not."""
        new = (x_t == EMPTY) & (x_prev != EMPTY)
        legal = (new.sum(1) == 1) & ((x_t == x_prev) | new).all(1) & ((x_t == EMPTY).sum(1) == t)
        chosen = log_probs.gather(1, new.long().argmax(1, keepdim=True))[:, 0]
        return torch.where(legal, chosen, -math.inf)

    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        steps = self.orders(x0, generator)
        t = torch.arange(self.timesteps + 1)[:, None, None]
        return torch.where(steps > t, x0, EMPTY)

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        states = [torch.full(shape, EMPTY)]
        for _ in range(self.timesteps):
            x = states[-1]
            entry, bit = self.policy_f(x).unbind(1)
            place = torch.multinomial(self._entries(entry, x, fill=True).softmax(1), 1, generator=generator)
            one = torch.rand(len(x), 1, generator=generator) < bit.gather(1, place).sigmoid()
            states.append(x.scatter(1, place, one.long()))
        return torch.stack(states[::-1])

    def _where(self, allowed: Tensor) -> Tensor:
        zero = torch.zeros(len(allowed), dtype=self._dtype)
        return zero.masked_fill(~allowed, -math.inf)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.policy_f.parameters()).dtype
