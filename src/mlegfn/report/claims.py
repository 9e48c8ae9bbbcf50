"""claims.yaml: what the paper claims, each claim with a test in a small declarative vocabulary.

A claim holds no verdict, and no key for one exists: verdicts come from :mod:`mlegfn.report.verdict` alone.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mlegfn.config import Arm, Block, DiscreteArm, Problem, differ, read_yaml, rule
from mlegfn.divergence_settings import ControlVariate, Objective, OnPolicy, Task
from mlegfn.errors import UserError
from mlegfn.validation import shown, validate

Text = Annotated[str, Field(min_length=1)]


Model = Literal["ddpm", "vlb", "mle_gfn"]


class FinetuneBelow(Block):
    """Test NLL of ``arm`` is below that of ``reference``, both fine-tuned from the same checkpoint."""

    kind: Literal["finetune_below"]
    arm: Arm
    reference: Literal["baseline", "baseline_next", "simple", "vlb"] = Field(
        description="another arm; the baseline at the same place (linear between saved steps); its next saved step"
    )
    checkpoints: Literal["all", "mean"] = Field(description="at every checkpoint, or averaged over them")
    at: Literal["last", "every"] = Field(
        description="after the last fine-tuning step, or at every measured one"
    )
    equal: Literal["steps", "evaluations"] = Field(description="what the two have in common")

    @rule("reference", "arm")
    def two_models(reference, arm):
        return "must be another one than `arm`" if reference == arm else None

    @rule("equal", "reference")
    def next_is_of_steps(equal, reference):
        if reference == "baseline_next" and equal != "steps":
            return "must be steps, because the reference is baseline_next"

    @rule("at", "checkpoints")
    def means_are_at_the_end(at, checkpoints):
        if checkpoints == "mean" and at != "last":
            return "must be last, because the checkpoints are averaged"


class PlanarBelow(Block):
    """``metric`` of ``model`` is below that of ``reference`` on each of ``problems``."""

    kind: Literal["planar_below"]
    model: Model
    reference: Model
    metric: Literal["nll", "elbo_nll", "mmd"]
    problems: Annotated[list[Problem], Field(min_length=1)]

    @rule("reference", "model")
    def two_models(reference, model):
        return "must be another one than `model`" if reference == model else None


class PlanarWithinFloor(Block):
    """MMD² of ``model``'s samples to data is within the 95 % quantile of that between data and data."""

    kind: Literal["planar_within_floor"]
    model: Model
    problems: Annotated[list[Problem], Field(min_length=1)]


class DiscreteAtMost(Block):
    """``metric`` of arm ``model`` on the problems as 32 bits is at most the published one, on ``at_least`` of them."""

    kind: Literal["discrete_at_most"]
    model: DiscreteArm
    metric: Literal["nll", "mmd"]
    values: Annotated[dict[Problem, float], Field(min_length=1)] = Field(
        description="problem: the published value"
    )
    at_least: Annotated[int, Field(ge=1)]

    @rule("at_least", "values")
    def there_are_so_many(at_least, values):
        return None if at_least <= len(values) else f"must be at most the number of values, {len(values)}"


class DivergenceBelow(Block):
    """The exact metric of each of ``objectives`` is below that of each ``reference``, in ``at_least`` of the pairs."""

    kind: Literal["divergence_below"]
    task: Task
    objectives: Annotated[list[Objective], Field(min_length=1)]
    reference: Annotated[list[Objective], Field(min_length=1)]
    measure: Literal["final", "area"] = Field(
        description="after the last step, or the mean over training: what is faster has the smaller area"
    )
    or_alike: Annotated[bool, Field(strict=True)] = Field(
        description="whether it is enough that it is not shown to be above"
    )
    at_least: Annotated[int, Field(ge=1, strict=True)]

    objectives_differ = rule("objectives")(differ)

    @rule("reference", "objectives")
    def others(reference, objectives):
        both = [name for name in reference if name in objectives]
        return differ(reference) or (f"must be others than `objectives`: {both[0]}" if both else None)

    @rule("at_least", "objectives", "reference")
    def there_are_so_many(at_least, objectives, reference):
        pairs = len(objectives) * len(reference)
        return None if at_least <= pairs else f"must be at most the number of pairs, {pairs}"


class DivergencesAlike(Block):
    """The final exact metrics of ``objectives`` cannot be told apart, pair by pair."""

    kind: Literal["divergences_alike"]
    task: Task
    objectives: Annotated[list[Objective], Field(min_length=2)]

    objectives_differ = rule("objectives")(differ)


class VarianceBelow(Block):
    """The trace of the gradient's covariance with ``control_variate`` is below that with ``reference``, at every
    batch size."""

    kind: Literal["variance_below"]
    task: Task | None = Field(description="null = on every task whose gradients the scale measures")
    objective: OnPolicy
    control_variate: ControlVariate
    reference: ControlVariate

    @rule("reference", "control_variate")
    def two_variates(reference, control_variate):
        return "must be another one than `control_variate`" if reference == control_variate else None


# {report: {kind: its model}}: the stages `verdict`, `discrete_report` and `divergences_report` decide one each, from
# metrics of their own.
REPORTS = {
    "images": {
        "finetune_below": FinetuneBelow,
        "planar_below": PlanarBelow,
        "planar_within_floor": PlanarWithinFloor,
    },
    "discrete": {"discrete_at_most": DiscreteAtMost},
    "divergences": {
        "divergence_below": DivergenceBelow,
        "divergences_alike": DivergencesAlike,
        "variance_below": VarianceBelow,
    },
}
KINDS = {kind: model for kinds in REPORTS.values() for kind, model in kinds.items()}


class UnknownTest(BaseModel):
    """Stands in where the kind is none of ours, so that the error says which there are."""

    model_config = ConfigDict(extra="allow")
    kind: Literal[tuple(KINDS)]


class Claim(NamedTuple):
    """One claim: ``scales`` is None, or the names of the only scales that can test it."""

    id: str
    claim: str
    paper: str
    source: str
    scales: list | None
    test: Any


def load(path="claims.yaml", report="images"):
    """The claims of ``path`` in its order that ``report``, one of REPORTS, decides; every mistake of *all* claims at
    once in one UserError, each naming its key.
    """
    kinds = REPORTS[report]
    raw, file = read_yaml(path), Path(path).name
    if not isinstance(raw, dict) or not raw:
        raise UserError(
            f"{file}: expected claims, each under its name, got {shown(raw)}; restore it from git"
        )
    claims, errors = [], []
    for name, value in raw.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            errors.append(f"{file}: {shown(name)}: not a name; use lower-case letters, digits and hyphens")
        try:
            claims.append(Claim(name, **dict(validate(_model(value), value, f"{file}: {shown(name)[1:-1]}"))))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(errors))
    return [claim for claim in claims if claim.test.kind in kinds]


def _model(raw):
    """The model of one claim: its test is what the kind says."""
    test = raw.get("test") if isinstance(raw, dict) else None
    kind = test.get("kind") if isinstance(test, dict) else None
    known = KINDS.get(kind, UnknownTest) if isinstance(kind, str) else UnknownTest

    class ClaimOfKind(Block):
        claim: Text
        paper: Text
        source: Text
        scales: Annotated[list[Text], Field(min_length=1)] | None
        test: known

    return ClaimOfKind
