"""Modules whose import takes a tenth of a second or more, or many megabytes."""

from __future__ import annotations

import sys
from collections.abc import Iterable

HEAVY = {
    "torch",
    "torchvision",
    "cvxpy",
    "mosek",
    "clarabel",
    "scs",
    "sklearn",
    "matplotlib",
    "pandas",
    "pyarrow",
    "PIL",
}
HEAVY |= {f"scipy.{part}" for part in ("interpolate", "linalg", "ndimage", "optimize", "sparse", "special", "stats")}


def heavy(modules: Iterable[str] = ()) -> list[str]:
    """Those among these modules, or among what this process has imported."""
    return sorted(HEAVY & set(modules or sys.modules))
