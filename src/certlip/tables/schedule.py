"""How long the run would take on other numbers of cores, and what bounds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Schedule",
    caption="Wall time of the jobs of this run on so many cores, simulated from what each took: of the jobs that are "
    "ready, the one with the longest chain behind it starts first, and each takes the head, which starts one after the "
    "other, its mean CPU time a job (Head: of all jobs). What a job's threads share follows from its CPU time. "
    "Efficiency: time on one core / cores / seconds. Ratio: of the seconds and work / cores + longest chain. The "
    "last rows are the longest chain, each job with its threads; the start of snakemake is not counted.",
    source="schedule",
)


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a number of cores, then one a job of the longest chain."""
    return _cells.frame([_row(row) for row in rows.itertuples(index=False)], _COLUMNS)


_COLUMNS = ["Job", "Cores", "Seconds", "Efficiency", "Work / cores + chain", "Ratio", "Head"]


def _row(row: Any) -> list[str]:
    cells = [row.job, str(row.cores), _cells.seconds(row.seconds)]
    if row.part == "chain":
        return [*cells, *[_cells.NONE] * 4]
    efficiency, ratio = (_cells.number(value, digits=3) for value in (row.efficiency, row.ratio))
    return [*cells, efficiency, _cells.seconds(row.work_and_chain_seconds), ratio, _cells.seconds(row.head_seconds)]
