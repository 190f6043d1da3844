"""What a finer partition saves and costs: the third experiment of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from certlip.tables import TableInfo, _cells, _sweep

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Partition trade-off",
    caption="Bound and wall time in seconds, calibration included, of each partition, from the coarsest to the finest, "
    "by the way its blocks are merged; below, methods whose partition is not given.",
)
EXPERIMENT = "tradeoff"
OTHERS = "no given grid"
"""Column of the methods whose partition is not given."""


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns Network and Partition, one a merge, and one for what has no grid and merge; rows by grid."""
    import pandas as pd

    rows, others = partitioned(bounds), unpartitioned(bounds)
    columns = [*rows["merge"].unique(), *([OTHERS] if len(others) else [])]
    places = rows.sort_values("patches", kind="stable").assign(place=rows["grid"], column=rows["merge"])
    stacked = pd.concat([places, others.assign(place=others["method"], column=OTHERS)])
    cells = {(row.network, row.place, row.column): _sweep.cell(row) for row in stacked.itertuples(index=False)}
    return _cells.frame(
        [
            [network, place, *(cells.get((network, place, column), _cells.NONE) for column in columns)]
            for network, place in stacked[["network", "place"]].drop_duplicates().itertuples(index=False)
        ],
        columns=["Network", "Partition", *columns],
    )


def partitioned(bounds: pd.DataFrame) -> pd.DataFrame:
    """The rows of the experiment that have a grid and a merge, with the columns merge, grid and patches."""
    rows = _experiment(bounds)
    rows = rows[_is_cut(rows)]
    options = rows["options"].map(json.loads)
    return rows.assign(
        merge=options.map(lambda o: o["merge"]),
        grid=options.map(lambda o: " ".join(f"{r}x{c}" for r, c in _grids(o["grid"]))),
        patches=options.map(lambda o: n_patches(o["grid"])),
    )


def unpartitioned(bounds: pd.DataFrame) -> pd.DataFrame:
    """The other rows of the experiment: the network as a whole, or in parts that a method chose."""
    rows = _experiment(bounds)
    return rows[~_is_cut(rows)]


def _experiment(bounds: pd.DataFrame) -> pd.DataFrame:
    return bounds[bounds["experiment"] == EXPERIMENT]


def _is_cut(rows: pd.DataFrame) -> pd.Series:
    options = rows["options"].map(json.loads)
    return options.map(lambda o: isinstance(o.get("grid"), list) and o.get("merge") is not None).astype(bool)


def n_patches(grid: list) -> int:
    """Patches of one grid [rows, columns], or of a list with one grid a segment."""
    return sum(n_rows * n_columns for n_rows, n_columns in _grids(grid))


def _grids(grid: list) -> list:
    return grid if isinstance(grid[0], list) else [grid]
