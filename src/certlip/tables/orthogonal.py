"""Networks with orthogonal weights, whose constant is at most 1: the fifth experiment of Sulehman & Mu 2024."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.base.record import Kind, Status
from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Orthogonal weights",
    caption="Value of each method on networks whose layers have orthogonal weights, so that the Lipschitz constant is "
    "at most 1.",
)
EXPERIMENT = "orthogonal"


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Column Network, then one a method."""
    rows = bounds[bounds["experiment"] == EXPERIMENT]
    methods = rows["method"].unique().tolist()
    cells = {(row.network, row.method): _cell(row) for row in rows.itertuples(index=False)}
    return _cells.frame(
        [[n, *(cells.get((n, m), _cells.NONE) for m in methods)] for n in rows["network"].unique()],
        columns=["Network", *methods],
    )


def _cell(row: Any) -> str:
    # four digits, rounded to the safe side, would hide how close to 1 a value is
    return _cells.marked(row.value, Kind(row.kind), digits=6) if row.status == Status.OK else str(row.status)
