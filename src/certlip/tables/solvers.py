"""Semidefinite solvers on the same problems: what they prove, what it costs, and how much slower than ours they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from certlip.record import Kind, Status
from certlip.tables import TableInfo, _cells

INFO = TableInfo(
    title="Semidefinite solvers",
    caption="Bound certified from each solver's multipliers, its relative distance to the best of the problem, wall "
    "time of solving and certifying, and the smallest eigenvalue of the matrix as the solver returned it: where it is "
    "negative the solver's own objective is no bound. Rows of all problems hold the geometric mean of the "
    "quotient of seconds over the problems that both solved.",
    source="solvers",
)
OURS = "structured"
"""The adapter that the others are compared with."""

_ALL = "all"


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a problem, number of threads and solver, then a row a solver with the mean of seconds / ours."""
    rows = with_quotients(rows)
    cells = [*map(_row, rows.itertuples(index=False)), *_means(rows)]
    return pd.DataFrame(cells, columns=_COLUMNS, dtype="str")


def with_quotients(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column ``quotient``: seconds / ours, missing unless both solved the problem."""
    solved = rows["status"] == Status.OK
    key = ["problem", "threads"]
    ours = rows[solved & (rows["solver"] == OURS)].set_index(key)["seconds"].rename("ours")
    return rows.assign(quotient=(rows["seconds"] / rows.join(ours, on=key)["ours"]).where(solved))


_COLUMNS = [
    *("Problem", "Order", "Threads", "Solver", "Bound", "Distance", "Seconds", "Seconds / ours", "Peak MB"),
    *("Iterations", "Smallest eigenvalue", "Status"),
]


def _row(row: Any) -> list[str]:
    return [
        row.problem,
        str(row.order),
        str(row.threads),
        row.title,
        _cells.NONE if pd.isna(row.bound) else _cells.marked(row.bound, Kind.CERTIFIED, digits=6),
        _cells.number(row.distance, digits=2),
        _cells.NONE if pd.isna(row.seconds) else _cells.seconds(row.seconds),
        _cells.number(row.quotient, digits=3),
        _whole(row.peak_mb),
        _whole(row.iterations),
        _cells.number(row.minimum_eigenvalue, digits=2),
        row.status,
    ]


def _whole(value: float) -> str:
    return _cells.NONE if pd.isna(value) else f"{value:.0f}"


def _means(rows: pd.DataFrame) -> Iterator[list[str]]:
    for title, group in rows.dropna(subset=["quotient"]).groupby("title", sort=False):
        mean = float(np.exp(np.log(group["quotient"]).mean()))
        filled = {
            "Problem": _ALL,
            "Solver": str(title),
            "Seconds / ours": _cells.number(mean, digits=3),
            "Status": f"{len(group)} solved by both",
        }
        yield [filled.get(column, _cells.NONE) for column in _COLUMNS]
