"""Speed-up by workers that solve semidefinite programs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Speed-up by workers",
    caption="Wall time of one plan of distinct semidefinite programs, solved by so many workers, one program and one "
    "BLAS thread each, and the quotient of the first row's time and this one.",
    source="workers",
)


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns Workers, Programs, Largest order, Seconds, Speed-up."""
    cells = [_row(row) for row in rows.itertuples(index=False)]
    return _cells.frame(cells, columns=["Workers", "Programs", "Largest order", "Seconds", "Speed-up"])


def _row(row: Any) -> list[str]:
    counts = [str(n) for n in (row.n_workers, row.n_programs, row.order)]
    return [*counts, _cells.seconds(row.seconds), _cells.number(row.speedup, digits=3)]
