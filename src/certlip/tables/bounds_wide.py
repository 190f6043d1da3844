"""The comparison at a glance: networks down, methods across."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.tables import TableInfo, _cells, tradeoff

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Lipschitz bounds",
    caption="l2 Lipschitz constant of each network as each method bounds it; the smallest certified bound is the best. "
    "The partition trade-off has a table of its own.",
)


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Column Network, then one a method, both in the order of the rows of `bounds`."""
    bounds = bounds[bounds["experiment"] != tradeoff.EXPERIMENT]
    methods = bounds["method"].unique().tolist()
    cells = {(row.network, row.method): _cells.bound(row) for row in bounds.itertuples(index=False)}
    return _cells.frame(
        [
            [network, *(cells.get((network, method), _cells.NONE) for method in methods)]
            for network in bounds["network"].unique()
        ],
        columns=["Network", *methods],
    )
