"""How well automatic plans predict what their programs take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.predictions import spread, with_factors
from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Predictions",
    caption="Actual over predicted seconds and peak memory of each program of an automatic plan that no limit ended, "
    "by its solver and by how it is solved: median, and how far off, in either direction, nine in ten stay and all. "
    "Cut short: programs that a limit ended.",
    source="predictions",
)


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a solver and shape, then one for all."""
    cells = [_row(str(solver), str(shape), group) for (solver, shape), group in rows.groupby(["solver", "shape"])]
    return _cells.frame([*cells, *([_row("all", "all", rows)] if len(rows) else [])], columns=_COLUMNS)


_OFF = ("median", "nine in ten", "all")
_COLUMNS = [
    *("Solver", "Shape", "Programs", "Cut short", "Orders"),
    *(f"Seconds, {of}" for of in _OFF),
    *(f"Memory, {of}" for of in _OFF),
]


def _row(solver: str, shape: str, rows: pd.DataFrame) -> list[str]:
    done = with_factors(rows)
    seconds, memory = (
        [_cells.number(factor, digits=3) for factor in spread(done[column])] if len(done) else [_cells.NONE] * 3
        for column in ("seconds_factor", "memory_factor")
    )
    orders = f"{rows['order'].min()} to {rows['order'].max()}"
    return [solver, shape, str(len(rows)), str(len(rows) - len(done)), orders, *seconds, *memory]
