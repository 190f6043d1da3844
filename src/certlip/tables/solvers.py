"""Semidefinite solvers on the same problems: what they prove, what it costs, and how much slower than ours they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.base.record import Kind, Status
from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

MIDDLE = (500, 1300)
"""Orders where solvers are compared by a mean of their own: large enough for times to mean something."""

INFO = TableInfo(
    title="Semidefinite solvers",
    caption="Bound certified from each solver's multipliers, its relative distance to the best of the problem, wall "
    "time of solving and certifying, and the smallest eigenvalue of the matrix as the solver returned it: where it is "
    "negative the solver's own objective is no bound. A solver that hit a limit is not tried on larger problems of the "
    "family. The last rows hold geometric means of the quotient of seconds over the problems that both solved, of all "
    f"orders and of those from {MIDDLE[0]} to {MIDDLE[1]}.",
    source="solvers",
)
OURS = "structured"
"""The adapter that the others are compared with."""


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a problem, number of threads and solver, then a row a solver with the mean of seconds / ours."""
    rows = with_quotients(rows)
    middle = rows[rows["order"].between(*MIDDLE)]
    means = [*_means("all", rows), *_means("order {} to {}".format(*MIDDLE), middle)]
    cells = [*map(_row, rows.itertuples(index=False)), *means]
    return _cells.frame(cells, columns=_COLUMNS)


def with_quotients(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column ``quotient``: seconds / ours, missing unless both solved the problem."""
    solved = rows["status"] == Status.OK
    key = ["problem", "threads"]
    ours = rows[solved & (rows["solver"] == OURS)].set_index(key)["seconds"].rename("ours")
    return rows.assign(quotient=(rows["seconds"] / rows.join(ours, on=key)["ours"]).where(solved))


_COLUMNS = [
    *("Problem", "Order", "Threads", "Solver", "Bound", "Distance", "Seconds", "Of it certifying", "Seconds / ours"),
    *("Peak MB", "Iterations", "Smallest eigenvalue", "Status"),
]


def _row(row: Any) -> list[str]:
    return [
        row.problem,
        str(row.order),
        str(row.threads),
        row.title,
        _cells.NONE if _cells.is_missing(row.bound) else _cells.marked(row.bound, Kind.CERTIFIED, digits=6),
        _cells.number(row.distance, digits=2),
        _cells.NONE if _cells.is_missing(row.seconds) else _cells.seconds(row.seconds),
        _cells.NONE if _cells.is_missing(row.certify_seconds) else f"{row.certify_seconds / row.seconds:.0%}",
        _cells.number(row.quotient, digits=3),
        _whole(row.peak_mb),
        _whole(row.iterations),
        _cells.number(row.minimum_eigenvalue, digits=2),
        row.status if row.tried else f"{row.status}, not tried",
    ]


def _whole(value: float) -> str:
    return _cells.NONE if _cells.is_missing(value) else f"{value:.0f}"


def _means(problem: str, rows: pd.DataFrame) -> Iterator[list[str]]:
    for (title, threads), group in rows.dropna(subset=["quotient"]).groupby(["title", "threads"], sort=False):
        filled = {
            "Problem": problem,
            "Threads": str(threads),
            "Solver": str(title),
            "Seconds / ours": _cells.number(float(np.exp(np.log(group["quotient"]).mean())), digits=3),
            "Status": f"{len(group)} solved by both",
        }
        yield [filled.get(column, _cells.NONE) for column in _COLUMNS]
