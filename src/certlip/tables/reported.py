"""Figures that papers print, beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Reported figures",
    caption="What publications report of networks of these shapes, beside ours. Weights and machines are others, so "
    "only quotients compare: in brackets the value divided by the largest of the same network and source.",
)


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns Network, Method, Ours, Reported, Seconds, Reported s, Reported by."""
    rows = bounds[bounds["reported"].notna()]
    largest = rows.groupby("network")[["value", "reported"]].transform("max").add_prefix("largest_")
    cells = [_row(row) for row in rows.join(largest).itertuples(index=False)]
    columns = ["Network", "Method", "Ours", "Reported", "Seconds", "Reported s", "Reported by"]
    return _cells.frame(cells, columns=columns)


def _row(row: Any) -> list[str]:
    return [
        row.network,
        row.method,
        _cells.bound(row) + _quotient(row.value, row.largest_value),
        _cells.number(row.reported) + _quotient(row.reported, row.largest_reported),
        _cells.seconds(row.seconds + row.calibration_seconds),
        _cells.number(row.reported_seconds, digits=3),
        row.reported_by,
    ]


def _quotient(value: float, largest: float) -> str:
    return f" ({value / largest:.3f})" if 0 < value < largest else ""
