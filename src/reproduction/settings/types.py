"""What settings are made of: numbers with bounds, blocks without unknown keys, checks that several share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from reproduction.settings.validation import Rule

# The upper bounds keep a slip of the finger (1e300, 10**400) from becoming an overflow far from here.
Count = Annotated[int, Field(ge=1, le=10**9, strict=True)]
Index = Annotated[int, Field(ge=0, le=10**9, strict=True)]
Several = Annotated[int, Field(ge=2, le=10**9, strict=True)]
Positive = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False, strict=True)]
Beta = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False, strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def rises(values):
    return None if all(a < b for a, b in zip(values, values[1:])) else "must rise from entry to entry"


def differ(values):
    return None if len(set(values)) == len(values) else "names something twice"


class Block(BaseModel):
    """A mapping in params.yaml: unknown keys are errors, because a misspelt setting does nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(Rule,))
