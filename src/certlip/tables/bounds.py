"""Every result with its cost: a row a (network, method)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Bounds and their cost",
    caption="l2 Lipschitz bounds of each network by each method, the quotient of value and best lower bound, "
    "by how much at most better multipliers could lower it (gap, relative), what a "
    "publication reports of such a network with other weights, wall time of the method (loading excluded), the time "
    "spent on choosing a partition, and peak memory of the process.",
)


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns Network and Method, value, costs, status and reason: `_COLUMNS`."""
    rows = bounds.itertuples(index=False)
    return _cells.frame([_row(row) for row in rows], columns=_COLUMNS)


_COLUMNS = [
    "Network",
    "Method",
    "Value",
    "Kind",
    "Value / lower",
    "Gap",
    "Reported",
    "Seconds",
    "Calibration s",
    "Peak MB",
    "Status",
    "Reason",
]


def _row(row: Any) -> list[str]:
    return [
        row.network,
        row.method,
        _cells.bound(row),
        row.kind,
        _cells.number(row.ratio),
        _cells.number(row.gap, digits=2),
        _cells.number(row.reported),
        _cells.seconds(row.seconds),
        _cells.seconds(row.calibration_seconds) if row.calibration_seconds else _cells.NONE,
        _cells.NONE if _cells.is_missing(row.peak_mb) else f"{row.peak_mb:.0f}",
        row.status,
        row.reason,
    ]
