"""What both stages of the structured solver hand on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Outcome:
    """multipliers: the best feasible ones, (m,); rho: their objective; lower: best dual bound on rho."""

    multipliers: Tensor
    rho: float
    lower: float
    iterations: int
    status: Literal["ok", "time_limit"] = "ok"
    message: str = ""

    @property
    def gap(self) -> float:
        """(rho - lower) / rho."""
        return (self.rho - self.lower) / self.rho if math.isfinite(self.rho) else math.inf


Report = Callable[[Callable[[], Outcome]], None]
"""Told how to get the best outcome so far; its rho may still lack a proof."""


def unheard(make: Callable[[], Outcome]) -> None:
    """The `Report` of a solve that nobody waits for."""
