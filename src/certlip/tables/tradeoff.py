"""What a finer partition saves and costs: the third experiment of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

import json

import pandas as pd

from certlip.tables import TableInfo, _cells, _sweep

INFO = TableInfo(
    title="Partition trade-off",
    caption="Certified bound and wall time in seconds, calibration included, of each partition, from the coarsest to "
    "the finest, by the way its blocks are merged.",
)
EXPERIMENT = "tradeoff"


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns Network and Grid, then one a merge; rows by grid."""
    rows = partitioned(bounds)
    merges = rows["merge"].unique().tolist()
    cells = {(row.network, row.grid, row.merge): _sweep.cell(row) for row in rows.itertuples(index=False)}
    places = rows.sort_values("patches", kind="stable")[["network", "grid"]].drop_duplicates()
    return pd.DataFrame(
        [
            [network, grid, *(cells.get((network, grid, merge), _cells.NONE) for merge in merges)]
            for network, grid in places.itertuples(index=False)
        ],
        columns=["Network", "Grid", *merges],
        dtype="str",
    )


def partitioned(bounds: pd.DataFrame) -> pd.DataFrame:
    """The rows of the experiment that have a grid and a merge, with the columns merge, grid and patches."""
    rows = bounds[bounds["experiment"] == EXPERIMENT]
    options = rows["options"].map(json.loads)
    cut = options.map(lambda o: isinstance(o.get("grid"), list) and o.get("merge") is not None).astype(bool)
    rows, options = rows[cut], options[cut]
    return rows.assign(
        merge=options.map(lambda o: o["merge"]),
        grid=options.map(lambda o: " ".join(f"{r}x{c}" for r, c in _grids(o["grid"]))),
        patches=options.map(lambda o: n_patches(o["grid"])),
    )


def n_patches(grid: list) -> int:
    """Patches of one grid [rows, columns], or of a list with one grid a segment."""
    return sum(n_rows * n_columns for n_rows, n_columns in _grids(grid))


def _grids(grid: list) -> list:
    return grid if isinstance(grid[0], list) else [grid]
