"""Every objective on the same footing: what it needs of the trajectories, and its loss. A new one is a line below."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from mlegfn.objectives import balance, divergences
from mlegfn.objectives.f_balance import f_trajectory_balance

__all__ = ["OBJECTIVES", "Scores", "log_scale", "objective"]


class Scores(NamedTuple):
    """What the networks say of N trajectories of at most T actions, with graphs to their parameters.

    log_pf, log_pb: [N, T], 0 beyond the end (``lengths`` [N]) — or [N, 1], sums, where ``flows`` was not asked for
    log_flow:   [N, T+1] or None: log F(s_0) = log Z first, log R(x) last, or in ``log_flow[n, lengths[n]]``
    log_reward: [N]
    log_z:      [], ``Model.log_offset``; no objective that reads it here is flow matching
    """

    log_pf: Tensor
    log_pb: Tensor
    log_reward: Tensor
    log_z: Tensor
    log_flow: Tensor | None = None
    lengths: Tensor | None = None

    @property
    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """log P_F, log P_B, log R of whole trajectories, [N] each: what the trajectory objectives take."""
        return self.log_pf.sum(1), self.log_pb.sum(1), self.log_reward


Options = dict[str, Any]  # of an objective: numbers, names, tensors
Loss = Callable[[Scores, Options, Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Objective:
    """loss: (Scores, options, parameters) → []. options: what ``loss()`` was called with, over the defaults here.

    on_policy: valid only for trajectories of the policy itself; ``flows``: "state" or "edge" if it learns such;
    ``log_z``: whether log Z is learned, and with it ``Model.log_offset``; ``Model.log_z`` has its value.
    """

    title: str
    loss: Loss | None
    on_policy: bool = False
    flows: str | None = None
    log_z: bool = False
    options: Options = field(default_factory=dict)


def _divergence(function: Callable[..., Tensor], *names: str) -> Loss:
    def evaluate(scores: Scores, options: Options, parameters: Sequence[Tensor]) -> Tensor:
        chosen = {name: options[name] for name in names if name in options}
        variate = options["control_variate"]
        return function(*scores.sums, control_variate=variate, parameters=parameters, **chosen)

    return evaluate


def _trajectory_balance(scores: Scores, options: Options, parameters: Sequence[Tensor]) -> Tensor:
    return balance.trajectory_balance(*scores.sums, scores.log_z).mean()


def _log_variance(scores: Scores, options: Options, parameters: Sequence[Tensor]) -> Tensor:
    return balance.log_variance(*scores.sums).mean()


def _flows(scores: Scores) -> tuple[Tensor, Tensor]:
    """log F and lengths, which there are where ``flows`` was asked for."""
    return cast("tuple[Tensor, Tensor]", (scores.log_flow, scores.lengths))


def _detailed_balance(scores: Scores, options: Options, parameters: Sequence[Tensor]) -> Tensor:
    log_flow, lengths = _flows(scores)
    residuals = balance.detailed_balance(log_flow, scores.log_pf, scores.log_pb, lengths)
    return residuals.sum() / lengths.sum()


def _sub_trajectory_balance(scores: Scores, options: Options, parameters: Sequence[Tensor]) -> Tensor:
    log_flow, lengths = _flows(scores)
    return balance.sub_trajectory_balance(
        log_flow, scores.log_pf, scores.log_pb, options["lam"], lengths
    ).mean()


def _f_balance(divergence: str) -> Loss:
    def evaluate(scores: Scores, options: Options, parameters: Sequence[Tensor]) -> Tensor:
        chosen = {name: options[name] for name in ("alpha", "bound") if name in options}
        return f_trajectory_balance(*scores.sums, scores.log_z, divergence, **chosen).mean()

    return evaluate


COMBINED = {"control_variate": "combined"}  # unbiased, and costs no second backward pass
ALPHA = COMBINED | {"alpha": 0.5}

OBJECTIVES = {
    "trajectory_balance": Objective("TB", _trajectory_balance, log_z=True),
    "log_variance": Objective("log-variance", _log_variance),
    "detailed_balance": Objective("DB", _detailed_balance, flows="state", log_z=True),
    "sub_trajectory_balance": Objective(
        "sub-TB", _sub_trajectory_balance, flows="state", log_z=True, options={"lam": 0.9}
    ),
    "flow_matching": Objective("FM", None, flows="edge", log_z=True),
    "reverse_kl": Objective("reverse KL", _divergence(divergences.reverse_kl), True, options=COMBINED),
    "forward_kl": Objective(
        "forward KL", _divergence(divergences.forward_kl, "log_scale"), True, options=COMBINED
    ),
    "renyi": Objective("Rényi-α", _divergence(divergences.renyi, "alpha"), True, options=ALPHA),
    "tsallis": Objective(
        "Tsallis-α", _divergence(divergences.tsallis, "alpha", "log_scale"), True, options=ALPHA
    ),
    "f_forward_kl": Objective("f-TB, forward KL", _f_balance("forward_kl"), log_z=True),
    "f_tsallis": Objective("f-TB, Tsallis-α", _f_balance("tsallis"), log_z=True, options={"alpha": 0.5}),
}


def objective(name: str, on_policy: bool = True) -> Objective:
    """``OBJECTIVES[name]``, if it may be used on such trajectories.

    :raises ValueError: for an unknown name, and for trajectories that another policy drew (``on_policy`` False) where
        the objective is an expectation over the policy's own
    """
    if name not in OBJECTIVES:
        raise ValueError(f"no objective {name!r}; there are {', '.join(OBJECTIVES)}")
    chosen = OBJECTIVES[name]
    if chosen.on_policy and not on_policy:
        others = ", ".join(other for other, each in OBJECTIVES.items() if not each.on_policy)
        raise ValueError(
            f"{name} is an expectation over the policy's own trajectories; these were drawn by another one "
            f"(exploration, a replay buffer, or backwards from objects): use one of {others}"
        )
    return chosen


@torch.no_grad()
def log_scale(name: str, scores: Scores, alpha: float = 0.5) -> Tensor | None:
    """[]: the largest log-weight of a batch, for the ``log_scale`` of those that follow it; None where there is none.

    So the scale of forward KL and Tsallis-α is that of an initial batch, as in the paper, and not of each.
    """
    log_pf, log_pb, log_reward = scores.sums
    slope = {"forward_kl": -1.0, "tsallis": alpha - 1}.get(name)
    return None if slope is None else (slope * (log_pf - log_pb - log_reward)).max()
