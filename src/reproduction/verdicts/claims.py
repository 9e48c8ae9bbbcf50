"""Files of claims: what a paper claims, each claim with a test in a small declarative vocabulary.

An experiment has one file, claims/<experiment>.yaml, and its own kinds of test. A claim holds no verdict, and no key
for one exists: verdicts come from :mod:`reproduction.verdicts.verdict` alone.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mlegfn.errors import UserError
from reproduction.settings.types import Block
from reproduction.settings.validation import shown, validate
from reproduction.settings.yaml_file import read_yaml

__all__ = ["Claim", "Text", "load"]

Text = Annotated[str, Field(min_length=1)]


class Claim(NamedTuple):
    """One claim: ``scales`` is None, or the names of the only scales that can test it."""

    id: str
    claim: str
    paper: str
    source: str
    scales: list | None
    test: Any


def load(path, kinds):
    """The claims of the file ``path``, as ``Claim``s in its order.

    :param kinds: {kind: the pydantic model of its test}; each model has a field ``kind``
    :raises UserError: with every mistake of all claims at once, a line each, naming its key
    """
    raw, file = read_yaml(path), "/".join(Path(path).parts[-2:])
    if not isinstance(raw, dict) or not raw:
        raise UserError(
            f"{file}: expected claims, each under its name, got {shown(raw)}; restore it from git"
        )
    claims, errors = [], []
    for name, value in raw.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            errors.append(f"{file}: {shown(name)}: not a name; use lower-case letters, digits and hyphens")
        model = _claim_model(value, kinds)
        try:
            claims.append(Claim(name, **dict(validate(model, value, f"{file}: {shown(name)[1:-1]}"))))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(errors))
    return claims


def _claim_model(raw, kinds):
    """The model of one claim: its test is what its kind says; of no known kind, one that lists the kinds."""

    class UnknownTest(BaseModel):
        model_config = ConfigDict(extra="allow")
        kind: Literal[tuple(kinds)]

    test = raw.get("test") if isinstance(raw, dict) else None
    kind = test.get("kind") if isinstance(test, dict) else None
    known = kinds.get(kind, UnknownTest) if isinstance(kind, str) else UnknownTest

    class ClaimOfKind(Block):
        claim: Text
        paper: Text
        source: Text
        scales: Annotated[list[Text], Field(min_length=1)] | None
        test: known

    return ClaimOfKind
