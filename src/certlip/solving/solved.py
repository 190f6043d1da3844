"""The outcome of one semidefinite program of a plan, as value and as what files hold of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from certlip.base.errors import Refusal
from certlip.base.files import floats
from certlip.base.record import Status
from certlip.network import Array
from certlip.partition.plan import Job


@dataclass(frozen=True, eq=False)
class SolvedBlock:
    """The outcome of one distinct semidefinite program of a plan.

    segment, block: its place in the plan; chained: whether it belongs to one of the plan's chains; rho, multipliers:
    None and empty unless status is ok; metric: d of shape (n_0,) where the merge wants one, and rho is one then;
    reason: why there is none, or what there is to say; gap: its certified constant over the solver's dual bound, minus
    one, None where the solver gives no dual bound; seconds: of solving and certifying; peak_mb: of its process.
    """

    segment: int
    block: int
    status: str
    reason: str = ""
    rho: float | None = None
    multipliers: tuple[Array, ...] = ()
    seconds: float = 0.0
    peak_mb: float = 0.0
    order: int = 0
    iterations: int | None = None
    solver: str = ""
    solver_version: str = ""
    margin: float | None = None
    metric: Array | None = None
    chained: bool = False
    gap: float | None = None

    @property
    def refusal(self) -> Refusal | None:
        """Why it has no rho, None where it has one."""
        return Refusal(self.status, self.reason) if self.rho is None else None


def blocks_of(job: Job, solved: Sequence[SolvedBlock]) -> list[SolvedBlock]:
    """What came of a job of a plan: its blocks among these, none unless all are."""
    found = [s for s in solved if (s.segment, s.block) in job.places and s.chained == job.chained]
    return found if len(found) == len(job.places) else []


def to_arrays(solved: Sequence[SolvedBlock]) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """A JSON-ready entry of each, and the arrays, keyed ``multipliers.0.0``, ``metric.0``, ..."""
    arrays = {}
    for i, s in enumerate(solved):
        arrays.update({f"multipliers.{i}.{t}": multiplier for t, multiplier in enumerate(s.multipliers)})
        if s.metric is not None:
            arrays[f"metric.{i}"] = s.metric
    entries = [
        {f.name: getattr(s, f.name) for f in fields(s) if f.name not in ("multipliers", "metric")} for s in solved
    ]
    return entries, arrays


def from_arrays(entries: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array]) -> list[SolvedBlock]:
    """Inverse of `to_arrays`; raises KeyError, TypeError or ValueError on anything malformed."""
    solved = []
    for i, entry in enumerate(entries):
        n = sum(key.startswith(f"multipliers.{i}.") for key in arrays)
        multipliers = tuple(floats(arrays[f"multipliers.{i}.{t}"]) for t in range(n))
        metric = floats(arrays[f"metric.{i}"]) if f"metric.{i}" in arrays else None
        solved.append(SolvedBlock(**_Entry.model_validate(entry).model_dump(), multipliers=multipliers, metric=metric))
    return solved


Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Entry(BaseModel):
    """What a file says of a `SolvedBlock` besides its arrays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    segment: NonNegativeInt
    block: NonNegativeInt
    status: Annotated[Status, Field(strict=False)]
    reason: str
    rho: Finite | None
    seconds: Finite
    peak_mb: Finite
    order: NonNegativeInt
    iterations: NonNegativeInt | None
    solver: str
    solver_version: str
    margin: Finite | None
    chained: bool
    gap: Annotated[float, Field(allow_inf_nan=False)] | None

    @model_validator(mode="after")
    def _a_value_or_a_status(self) -> _Entry:
        if (self.rho is None) == (self.status == Status.OK):
            raise ValueError("a value and a status that do not go together")
        return self
