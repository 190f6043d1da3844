"""One result: what a method said of a network, how sure it is, and what it cost. The same for every method."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from certlip.base.model import FileModel


class Kind(StrEnum):
    """What a value may claim."""

    CERTIFIED = "certified"
    """An upper bound on the Lipschitz constant, rounding included."""
    ESTIMATE = "estimate"
    """May lie on either side."""
    LOWER = "lower"
    """Attained at a point, hence at or below the Lipschitz constant."""


class Status(StrEnum):
    """How a run ended; every status but ``ok`` comes with a reason and without a value."""

    OK = "ok"
    UNSUPPORTED = "unsupported"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    NOT_CERTIFIED = "not_certified"
    SOLVER_FAILED = "solver_failed"
    NO_DATA = "no_data"


class Record(FileModel):
    """One row of the comparison.

    value: the bound, None unless status is ok; reason: one sentence where something needs saying; certificate: the
    proof in memory (`certlip.verify` re-checks it), certificate_file: where it was saved; margin: of its tightest
    verification; gap: the value over what the solver's dual bounds allow it to become, minus one: at most so much could
    better multipliers gain. seconds: work of the method without imports and loading, summed over sub-problems as if run
    one after the other; calibration_seconds: what choosing the partition cost; peak_mb: peak memory of the process that
    ran it; n_sdps, n_distinct_sdps, max_order: of the semidefinite programs, None without any.
    """

    noun: ClassVar = "record"

    model_config = ConfigDict(arbitrary_types_allowed=True)

    network: str
    method: str
    options: Mapping[str, Any] = {}
    kind: Kind
    value: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    status: Status = Status.OK
    reason: str = ""
    certificate: Any = Field(default=None, exclude=True, repr=False)
    certificate_file: str | None = None
    margin: float | None = None
    gap: float | None = None
    seconds: float = 0.0
    calibration_seconds: float = 0.0
    peak_mb: float | None = None
    threads: int = 1
    device: str = "cpu"
    n_sdps: int | None = None
    n_distinct_sdps: int | None = None
    max_order: int | None = None
    iterations: int | None = None
    solver: str | None = None
    solver_version: str | None = None
    details: Mapping[str, Any] = {}
    weights_sha256: str | None = None
    code: str = ""
    versions: Mapping[str, str] = {}
    host: str = ""
    started_at: str = ""

    def model_post_init(self, context: Any) -> None:
        if (self.value is None) == (self.status is Status.OK):
            raise ValueError(f"status {self.status} with value {self.value}")

    def __str__(self) -> str:
        """One sentence."""
        named = f"{self.method} ({self.details['winner']})" if "winner" in self.details else self.method
        reason = f"  ({self.reason})" if self.reason else ""
        if self.value is None:
            return f"{self.network}: no bound by {named}, {self.status}{reason}"
        return f"{self.network}: {self.value!r} {self.kind} by {named} in {self.seconds:.3g} s{reason}"

    def __repr__(self) -> str:
        return f"<{self}>"
