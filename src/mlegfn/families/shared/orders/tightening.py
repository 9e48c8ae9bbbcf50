"""How tight the ELBO of an any-order model is, exactly: small enough to enumerate, trained by the real estimators.

The gap is log p(x) − ELBO(x) = KL(P_B(·|x) ‖ P_F's posterior over the orders of x) ≥ 0, and > 0 as soon as P_F does
not give all orders the probability that P_B gives them. A network of a few units cannot, on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch

from mlegfn.families.shared.fitting import train
from mlegfn.families.shared.orders.levels import all_of
from mlegfn.families.shared.orders.subsets import exact
from mlegfn.objectives.consistency import consistency
from mlegfn.objectives.kl_balance import kl_trajectory_balance
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import score

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mlegfn.families.any_order import AnyOrder
    from mlegfn.trajectory import MarkovPair

__all__ = ["measured", "policies", "target", "tightened", "trained"]

LENGTH, WIDTH, BACKWARD_WIDTH = 5, 4, 32
BATCH, TRAJECTORIES = 32, 4
WEIGHT = 1.0  # λ of TBC, on the unbiased variance; benchmarks/any_order.py has others


def target() -> tuple[Tensor, Tensor]:
    """(every x [32, 5], q(x) [32]): five bits with random probabilities, softmax of 3·N(0, 1)."""
    x = cast("Tensor", all_of(LENGTH, 2))  # so few can be enumerated
    logits = torch.randn(len(x), generator=generator(0, "any_order", "target"), dtype=torch.float64)
    return x, (3 * logits).softmax(0)


def policies(pair: MarkovPair, states: Tensor, trajectories: int) -> tuple[Tensor, Tensor]:
    """(log p(x_T) P_F(τ), log P_B(τ|x)), both [N, M], of states [T+1, N·M, …]: M ``trajectories`` of each x."""
    scored = score(pair, states)
    forward, backward = scored.log_prior + scored.log_pf.sum(0), scored.log_pb.sum(0)
    return forward.view(-1, trajectories), backward.view(-1, trajectories)


class Settings(NamedTuple):
    """What ``train`` asks for."""

    steps: int
    lr: float = 0.02


def trained(
    family: type[AnyOrder],
    steps: int,
    seed: int,
    learned: bool,
    weight: float,
    start: AnyOrder | None = None,
) -> AnyOrder:
    """A model of ``target`` after ``steps`` steps of KL-TB + λ·TBC, λ = ``weight``, on draws of q.

    P_B starts uniform, and stays so unless ``learned``. All arms of a seed have the same start. With ``start``, a
    trained model, its P_F is kept as it is and P_B alone is trained.
    """
    x, q = target()
    with torch.random.fork_rng([]):
        seed_layers(seed, "any_order", "exact")
        model = family(LENGTH, 2, WIDTH, BACKWARD_WIDTH, torch.float64)
    backward_policy = cast("nn.Sequential", model.backward_policy)  # there is one, with a width
    for parameter in backward_policy[-1].parameters():
        torch.nn.init.zeros_(parameter)
    backward_policy.requires_grad_(learned)
    if start is not None:
        model.load_state_dict(start.state_dict())
        model.forward_policy.requires_grad_(False)

    def loss(step: int) -> Tensor:
        rng = generator(seed, "any_order", "exact", step)
        rows = torch.multinomial(q, BATCH, replacement=True, generator=rng)
        states = model.sample_pb(x[rows].repeat_interleave(TRAJECTORIES, 0), rng)
        forward, backward = policies(model, states, TRAJECTORIES)
        value = kl_trajectory_balance(forward, backward).mean()
        return value + weight * consistency(forward - backward).mean() if weight else value

    train(model.parameters(), loss, Settings(steps))
    return model


@torch.no_grad()
def measured(model: AnyOrder) -> dict[str, float]:
    """{"NLL", "−ELBO", "gap"}: exact means over q, nats; NLL and −ELBO less q's entropy, so that 0 is perfect."""
    x, q = target()
    of = exact(model, x)
    entropy = -(q * q.log()).sum()
    nll, bound = (-(q * value).sum() - entropy for value in (of.log_p, of.elbo))
    return {"NLL": nll.item(), "−ELBO": bound.item(), "gap": (bound - nll).item()}


def tightened(family: type[AnyOrder], steps: int, seed: int) -> dict[str, dict[str, float]]:
    """{arm: ``measured``} of one seed: a random P_B; with TBC, from the same start; and P_B alone trained for as
    many steps on the P_F that the first arm left. benchmarks/any_order.py has more arms, and more seeds."""
    model = trained(family, steps, seed, learned=False, weight=0.0)
    return {
        "random P_B": measured(model),
        "random P_B and TBC": measured(trained(family, steps, seed, learned=False, weight=WEIGHT)),
        "that P_F, learned P_B": measured(
            trained(family, steps, seed, learned=True, weight=0.0, start=model)
        ),
    }
