"""What a model family is: a ``MarkovPair`` that can be built small, trained, scored and checked."""

import abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Literal, Protocol, Self, cast

import torch
from torch import Tensor, nn

__all__ = ["Check", "Family", "Fit", "Panel", "Settings", "by_step"]


class Settings(Protocol):
    """How a family is trained and scored. What it has no use for, it ignores."""

    @property
    def steps(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def lr(self) -> float: ...

    @property
    def hidden(self) -> int: ...

    @property
    def timesteps(self) -> int: ...

    @property
    def train_points(self) -> int: ...

    @property
    def test_points(self) -> int: ...

    @property
    def trajectories(self) -> int: ...

    def model_copy(self, *, update: Mapping[str, float]) -> Self:
        """The same but for what ``update`` says, as pydantic's models have it."""


@dataclass(frozen=True)
class Check:
    """One measured agreement between the GFlowNet's objective and the family's own: a row of Table 1.

    what:         what was compared, in words
    disagreement: measured; ``unit`` says of what ("relative", "nats", …)
    tolerance:    what it may be at most; the row passes if disagreement ≤ tolerance
    proposition:  the paper's proposition that it tests, if one
    """

    what: str
    disagreement: float
    tolerance: float
    unit: str = "relative"
    proposition: int | None = None

    @property
    def passed(self) -> bool:
        return self.disagreement <= self.tolerance

    def as_json(self) -> dict[str, object]:
        numbers = {"disagreement": float(self.disagreement), "tolerance": float(self.tolerance)}
        return {**asdict(self), **numbers, "passed": bool(self.passed)}


@dataclass(frozen=True)
class Panel:
    """Something to look at: ``points`` [n, 2] in the plane, ``images`` [n, H, W] in [0, 1], or a ``curve``
    [k, 2] of (x, y) drawn on log-log axes with ``labels`` for them."""

    title: str
    kind: Literal["points", "images", "curve"]
    values: Tensor
    labels: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Fit:
    """A family trained on data with one seed.

    model:  the trained pair
    scores: {what, with its unit: value}, e.g. ``{"test NLL, nats (importance-weighted, K = 64)": 2.71}``; the
            same keys for every seed, lower is better unless the key says otherwise
    panels: at most four, the data's first
    """

    model: "Family"
    scores: dict[str, float]
    panels: list[Panel] = field(default_factory=list)


class Family(nn.Module, abc.ABC):
    """A generative model as a GFlowNet: trajectory.py's ``MarkovPair``, with what Table 1 says of it.

    Class attributes (plain text, for Table 1 and the docs; the class's docstring is shown there too):

    title:         the family, as a reader calls it
    order:         its place in Table 1
    policies:      (P_F, P_B) in words or symbols
    deterministic: which of the two is deterministic: "neither", "P_B", "both"
    objective:     its training objective as a GFlowNet objective
    data:          what ``fit`` trains on, in words

    Instance attributes: ``timesteps`` T, and ``shape``, that of one state without the batch. A state may be of any
    dtype; where states of different t have different sizes, the unused entries are 0.
    """

    title: ClassVar[str]
    order: ClassVar[int]
    policies: ClassVar[tuple[str, str]]
    deterministic: ClassVar[Literal["neither", "P_F", "P_B", "both"]]
    objective: ClassVar[str]
    data: ClassVar[str]

    timesteps: int
    shape: tuple[int, ...]

    @classmethod
    def description(cls) -> dict[str, object]:
        """What Table 1 and the docs say of the family, as JSON."""
        return {
            "title": cls.title,
            "order": cls.order,
            "policies": list(cls.policies),
            "deterministic": cls.deterministic,
            "objective": cls.objective,
            "data": cls.data,
            "about": inspect.cleandoc(cast("str", cls.__doc__)),  # every family has one
        }

    @abc.abstractmethod
    def log_prior(self, x_T: Tensor) -> Tensor:
        """[N]: log p(x_T), nats."""

    @abc.abstractmethod
    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """[N]: log P_F(x_{t−1} | x_t), nats; x_prev, x_t [N, *shape], t int64 [N] in 1…T."""

    @abc.abstractmethod
    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """[N]: log P_B(x_t | x_{t−1}), nats."""

    @abc.abstractmethod
    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """[T+1, N, *shape]: one joint path of P_B from each x_0 [N, *shape]."""

    @abc.abstractmethod
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """[T+1, N, *shape]: one path of P_F from each of N draws of the prior; ``shape`` is [N, *self.shape]."""

    def log_prob(self, x: Tensor) -> Tensor:
        """[N]: log p(x) *exactly*, nats, where the family has it; NotImplementedError elsewhere."""
        raise NotImplementedError

    def domain(self) -> Tensor | None:
        """Every x there is, [K, *shape], where they can be enumerated; None elsewhere (the default)."""
        return None

    @classmethod
    @abc.abstractmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        """A small instance with random, *not* zero, parameters, for the property tests: where possible
        enumerable or of one or two dimensions, near enough to balance that weights w do not vary by orders of
        magnitude."""

    @classmethod
    @abc.abstractmethod
    def checks(cls, settings: Settings) -> list[Check]:
        """The rows of Table 1, a list of ``Check``: float64, a function of ``settings``, an object with the
        attributes steps, batch, lr, hidden, timesteps, train_points, test_points and trajectories."""

    @classmethod
    @abc.abstractmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        """Train on real data: a ``Fit``."""


def by_step(t: Tensor, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """[N]: ``function(step, *rows)`` for each step that occurs in ``t`` [N], on its rows of ``tensors`` [N, ...].

    For families whose steps have networks of their own: a loop over steps, never over samples.
    """
    steps = t.unique().tolist()
    rows = [(t == step).nonzero().squeeze(1) for step in steps]
    parts = [function(step, *(x[row] for x in tensors)) for step, row in zip(steps, rows)]
    return torch.zeros(len(t), dtype=parts[0].dtype, device=t.device).index_copy(
        0, torch.cat(rows), torch.cat(parts)
    )
