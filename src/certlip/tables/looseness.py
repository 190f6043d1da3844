"""How well the search ranks plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Looseness of plans",
    caption="Logarithm of a plan's bound over that of one program for the whole network, as the search predicts it and "
    "as it is, over the plans of a network: rank correlation (Spearman), and the largest difference; the same with "
    "losses fitted to these rows. The last row holds those losses.",
    source="looseness",
)


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a network, then the fitted losses."""
    cells = [_row(str(network), group) for network, group in rows.groupby("network", sort=False)]
    if len(rows):
        first = rows.iloc[0]
        losses = [f"{name} {first[name]:.3f}" for name in rows.columns if name.startswith(_LOSSES)]
        cells.append(["fitted", ", ".join(losses), *[_cells.NONE] * 4])
    return _cells.frame(cells, columns=_COLUMNS)


_LOSSES = ("cut", "chained_cut", "grid_", "doubling_", "overlap_")
_COLUMNS = ["Network", "Plans", "Rank correlation", "Largest difference", "Rank, fitted", "Difference, fitted"]


def _row(network: str, rows: pd.DataFrame) -> list[str]:
    cells = [network, str(len(rows))]
    for column in ("predicted", "refitted"):
        cells.append(_cells.number(float(rows[column].corr(rows["value"], method="spearman")), digits=3))
        cells.append(_cells.number(float((rows[column] - rows["actual"]).abs().max()), digits=2))
    return cells
