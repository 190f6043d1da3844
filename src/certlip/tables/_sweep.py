"""Bound and time along a sweep, for networks with random weights and for trained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.base.record import Status
from certlip.tables import _cells

if TYPE_CHECKING:
    import pandas as pd


def make(bounds: pd.DataFrame, experiment: str, axis: str) -> pd.DataFrame:
    """Columns `axis` and Network, then one a method; first the random networks, then the trained ones."""
    rows = bounds[bounds["experiment"].isin([experiment, f"{experiment}_trained"])]
    methods = rows["method"].unique().tolist()
    sweep = rows.sort_values(["experiment", "x"], kind="stable")
    cells = {(row.network, row.method): cell(row) for row in sweep.itertuples(index=False)}
    return _cells.frame(
        [
            [f"{x:g}", network, *(cells.get((network, method), _cells.NONE) for method in methods)]
            for network, x in sweep[["network", "x"]].drop_duplicates("network").itertuples(index=False)
        ],
        columns=[axis, "Network", *methods],
    )


def cell(row: Any) -> str:
    """Value and seconds."""
    text = _cells.bound(row)
    return text if row.status != Status.OK else f"{text} ({_cells.seconds(row.seconds + row.calibration_seconds)} s)"
