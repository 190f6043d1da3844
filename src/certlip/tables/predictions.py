"""How well automatic plans predict what their programs take."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def with_factors(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of programs that no limit ended, with the columns seconds_factor and memory_factor: actual over
    predicted."""
    done = rows[~rows["cut_short"].astype(bool)]
    factors = {"seconds_factor": done["seconds"] / done["predicted_seconds"]}
    return done.assign(**factors, memory_factor=done["peak_mb"] / done["predicted_mb"])


def spread(factors: pd.Series) -> tuple[float, float, float]:
    """Median of the factors; and how far off in either direction nine in ten stay, and all."""
    import pandas as pd

    off = pd.concat([factors, 1 / factors], axis=1).max(axis=1)
    return float(factors.median()), float(off.quantile(0.9)), float(off.max())
