"""Bound and time against the number of channels: the first experiment of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from certlip.record import Status
from certlip.tables import TableInfo, _cells

INFO = TableInfo(
    title="Width sweep",
    caption="l2 Lipschitz bounds of convolutional blocks that differ in their number of channels, with the wall time "
    "in seconds, calibration included.",
)
EXPERIMENT = "width_sweep"


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns Channels and Network, then one a method; rows by channels."""
    sweep = bounds[bounds["experiment"] == EXPERIMENT].sort_values("x", kind="stable")
    methods = bounds["method"][bounds["experiment"] == EXPERIMENT].unique().tolist()
    cells = {(row.network, row.method): _cell(row) for row in sweep.itertuples(index=False)}
    return pd.DataFrame(
        [
            [f"{x:g}", network, *(cells.get((network, method), _cells.NONE) for method in methods)]
            for network, x in sweep[["network", "x"]].drop_duplicates("network").itertuples(index=False)
        ],
        columns=["Channels", "Network", *methods],
        dtype="str",
    )


def _cell(row: Any) -> str:
    text = _cells.bound(row)
    return text if row.status != Status.OK else f"{text} ({_cells.seconds(row.seconds + row.calibration_seconds)} s)"
