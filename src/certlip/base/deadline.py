"""When something has to be done: one clock, handed on whole to whatever works towards it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """at: on `time.monotonic`, which all processes of a machine share; infinite for no deadline."""

    at: float = math.inf

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """So many seconds from now; None for no deadline."""
        return cls() if seconds is None else cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds left, negative once it has passed."""
        return self.at - time.monotonic()

    @property
    def max_seconds(self) -> float | None:
        """The time left as limits have it: None for no deadline, else at least zero."""
        return None if math.isinf(self.at) else max(self.left, 0.0)

    def allows(self, seconds: float) -> bool:
        """Whether what takes so long would be done in time."""
        return seconds <= self.left

    def before(self, seconds: float) -> Deadline:
        """The deadline for what has to be done so much earlier."""
        return Deadline(self.at - seconds)
