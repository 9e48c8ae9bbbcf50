"""The block ``finetune`` of a scale's images: what the arms have in common, and what is tried of each."""

import itertools
import math
from typing import Annotated, get_args

from pydantic import Field

from reproduction.settings.training import Arm, Chains, ConsistencyOptions, Optimizer
from reproduction.settings.types import Block, Count, Fraction, Index, NonNegative, Positive, rises
from reproduction.settings.validation import rule

__all__ = ["ArmSettings", "Finetune"]


class FinetuneOptimizer(Block):
    """Adam of every arm, with fresh moments; its rate and warm-up are chosen for each arm."""

    clip: Positive = Field(description="largest gradient norm; meant to clip no step: metrics count them")
    ema_decay: Fraction


class Search(Block):
    """Where an arm's settings are chosen: on validation images, with the seed and the checkpoint of one baseline."""

    checkpoint: Count
    seed: Index


class EveryArm(Block):
    """What the arms have in common: equal images, noise, steps and network evaluations."""

    evaluate_at: Annotated[list[Count], Field(min_length=1)] = Field(
        description="fine-tuning steps at which NLL is measured; the last one ends the training"
    )
    batch: Count = Field(description="independent images a step, of the likelihood term")
    optimizer: FinetuneOptimizer
    consistency: Chains = Field(description="every arm spends the network evaluations of these chains")
    search: Search

    @rule("evaluate_at")
    def points_rise(evaluate_at):
        return rises(evaluate_at)


class Plain(Block):
    """The settings tried of an arm: every combination. All arms try equally many."""

    lr: Annotated[list[Positive], Field(min_length=1)] = Field(description="learning rates")
    warmup: Annotated[list[Index], Field(min_length=1)] = Field(
        description="steps over which the rate rises linearly"
    )

    def trials(self):
        """Every combination, each as {setting: value}."""
        names = [name for name in ("weight", "lr", "warmup") if hasattr(self, name)]
        return [
            dict(zip(names, each)) for each in itertools.product(*(getattr(self, name) for name in names))
        ]


class WithChain(Plain, ConsistencyOptions):
    """The same of an arm with a term over chains."""

    weight: Annotated[list[Positive], Field(min_length=1)] = Field(
        description="λ on the unbiased variance over trajectories (half of λ on the paper's pairwise square); of "
        "`reweighted`, λ of the consistency term whose gradient the added one is as long as"
    )


class ArmConsistency(Chains, ConsistencyOptions):
    """The chains of one arm, and the term over them."""

    weight: NonNegative


class ArmSettings(Block):
    """What training one arm reads: one of the combinations that its settings list."""

    batch: Count
    optimizer: Optimizer
    consistency: ArmConsistency


NO_TERM = {
    "weight_warmup": 0,
    "policy": "forward",
    "loss": "square",
    "huber_delta": 1.0,
    "per_dimension": False,
}


def combinations(arm):
    """How many an arm's block lists, as the file has it; 0 for what is no such block."""
    lists = [arm[key] for key in ("weight", "lr", "warmup") if key in arm] if isinstance(arm, dict) else []
    return math.prod(len(each) if isinstance(each, list) else 0 for each in lists) if lists else 0


class Finetune(Block):
    all: EveryArm = Field(description="what every arm reads")
    simple: Plain | None = Field(None, description="L_simple trained on")
    simple_tbc: WithChain | None = Field(None, description="the paper's MLE-GFN: L_simple + λ·TBC")
    reweighted: WithChain | None = Field(
        None, description="L_simple + μ·bound, its gradient as long as that of λ·TBC"
    )
    vlb: Plain | None = Field(None, description="the bound")
    vlb_tbc: WithChain | None = Field(None, description="the bound + λ·TBC")

    @rule(".")
    def budgets_are_equal(block):
        counts = {arm: combinations(block.get(arm)) for arm in get_args(Arm)}
        counts = {arm: count for arm, count in counts.items() if count}
        if len(set(counts.values())) > 1:
            tried = ", ".join(f"{arm} {count}" for arm, count in counts.items())
            return f"every arm must try equally many combinations, not {tried}"

    def arm(self, name, trial):
        """The ``ArmSettings`` of an arm with one of its combinations, {setting: value}."""
        own = getattr(self, name)
        term = own.model_dump(include=set(NO_TERM)) if isinstance(own, WithChain) else NO_TERM
        rates = {key: trial[key] for key in ("lr", "warmup")}
        return ArmSettings(
            batch=self.all.batch,
            optimizer=Optimizer(**self.all.optimizer.model_dump(), **rates),
            consistency=ArmConsistency(
                **self.all.consistency.model_dump(), **term, weight=trial.get("weight", 0.0)
            ),
        )
