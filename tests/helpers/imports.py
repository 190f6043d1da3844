"""Modules whose import takes a tenth of a second or more."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

HEAVY = {"torch", "torchvision", "cvxpy", "mosek", "clarabel", "scs", "sklearn", "matplotlib", "pandas", "pyarrow"}
HEAVY |= {f"scipy.{part}" for part in ("interpolate", "linalg", "ndimage", "optimize", "sparse", "special", "stats")}


def heavy(modules: Iterable[str] = ()) -> list[str]:
    """Those among these modules, or among what this process has imported."""
    return sorted(HEAVY & set(modules or sys.modules))


def after(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """Those that this process has imported when the function has returned."""
    function(*arguments)
    return heavy()
