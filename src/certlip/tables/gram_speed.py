"""What the engineering of Gram iteration is worth: certified real arithmetic against the formula as printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Speed of Gram iteration",
    caption="Wall time of five certified steps of Gram iteration on one layer, and of five steps of the formula of "
    "Delattre et al. 2023 (arXiv 2305.16173) as it stands, in complex numbers on every frequency; the last row has the "
    "geometric mean of the speed-ups.",
    source="gram_speed",
)


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns Layer, Seconds, Naive seconds, Speed-up; the last row is the geometric mean."""
    cells = [_row(row) for row in rows.itertuples(index=False)]
    if cells:
        mean = float(np.exp(np.log(rows["speedup"]).mean()))
        cells.append(["geometric mean", _cells.NONE, _cells.NONE, _cells.number(mean, digits=3)])
    return _cells.frame(cells, columns=["Layer", "Seconds", "Naive seconds", "Speed-up"])


def _row(row: Any) -> list[str]:
    times = [_cells.seconds(seconds) for seconds in (row.seconds, row.naive_seconds)]
    return [row.layer, *times, _cells.number(row.speedup, digits=3)]
