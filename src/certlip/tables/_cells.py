"""Cells: numbers to four digits, each marked with what it may claim."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context
from typing import TYPE_CHECKING, Any

from certlip.base.record import Kind, Status

if TYPE_CHECKING:
    import pandas as pd

NONE = "–"
"""The cell of a number that does not exist."""

MARKS = {Kind.CERTIFIED: "≤", Kind.ESTIMATE: "~", Kind.LOWER: "≥"}

# a bound cut to four digits must still be one
_ROUNDING = {Kind.CERTIFIED: ROUND_CEILING, Kind.ESTIMATE: ROUND_HALF_EVEN, Kind.LOWER: ROUND_FLOOR}


def frame(rows: Iterable[Sequence[str]], columns: Sequence[str]) -> pd.DataFrame:
    """Cells of a table, row by row, as its `make` returns them."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns), dtype="str")


def is_missing(value: Any) -> bool:
    """Whether a number of a row is none."""
    import pandas as pd

    return bool(pd.isna(value))


def bound(row: Any) -> str:
    """The value of a row of `collect` with its mark, rounded to its safe side; the status where there is no value."""
    if row.status != Status.OK:
        return str(row.status)
    return marked(row.value, Kind(row.kind)) + (" (below lower)" if row.below_lower else "")


def marked(value: float, kind: Kind, *, digits: int = 4) -> str:
    """A number with the mark of its kind, rounded to its safe side."""
    return MARKS[kind] + number(value, digits=digits, rounding=_ROUNDING[kind])


def seconds(value: float) -> str:
    """A time to three digits, and to hundredths at most."""
    if value < 0.01:
        return "<0.01"
    return f"{value:.2f}" if value < 1 else number(value, digits=3)


def number(value: float, *, digits: int = 4, rounding: str = ROUND_HALF_EVEN) -> str:
    """Significant digits, as 12.30 or 1.230e6; `NONE` for a missing or infinite value."""
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    rounded = Context(prec=digits, rounding=rounding).create_decimal_from_float(value)
    magnitude = rounded.adjusted()
    if -4 < magnitude < 5:
        return f"{rounded:.{max(0, digits - 1 - magnitude)}f}"
    return f"{rounded:.{digits - 1}e}".replace("e+", "e")
