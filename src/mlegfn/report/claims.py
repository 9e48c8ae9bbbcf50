"""claims.yaml: what the paper claims, each claim with a test in a small declarative vocabulary.

A claim holds no verdict, and no key for one exists: verdicts come from :mod:`mlegfn.report.verdict` alone.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mlegfn.config import Arm, Block, DiscreteArm, Problem, read_yaml, rule
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


KINDS = {
    "finetune_below": FinetuneBelow,
    "planar_below": PlanarBelow,
    "planar_within_floor": PlanarWithinFloor,
    "discrete_at_most": DiscreteAtMost,
}
# Those that the stage `discrete_report` decides, from metrics of its own; `verdict` decides the others.
DISCRETE = {"discrete_at_most"}


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


def load(path="claims.yaml", discrete=False):
    """The claims of ``path`` in its order, those of DISCRETE or the others; every mistake of all of them at once in
    one UserError, each naming its key.
    """
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
    return [claim for claim in claims if (claim.test.kind in DISCRETE) == discrete]


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
