"""Bounds that others publish, each beside what is proved here of the same network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Claims of others",
    caption="Values that are published or used as upper bounds, each beside one that is proved here of the same "
    "network by the command in its row: a lower bound of the constant (lower), what multipliers of this kind can prove "
    "at least (dual), or a certified bound (upper). Where a lower one is above the claimed value, that is no bound. "
    "What is not refuted may hold.",
    source="claims_of_others",
)
_COLUMNS = ["Claim", "Of", "Claimed", "Proved", "Proof", "Verdict", "How", "What is a bound", "Command"]


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a finding."""
    return _cells.frame([_row(row) for row in rows.itertuples(index=False)], columns=_COLUMNS)


def _row(row: Any) -> list[str]:
    texts = [
        "" if _cells.is_missing(text) else str(text) for text in (row.what, row.proof, row.how, row.repair, row.reason)
    ]
    what, proof, how, repair, reason = texts
    numbers = [_cells.number(value, digits=5) for value in (row.claimed, row.proved)]
    return [row.source, what, *numbers, proof, row.verdict, how or reason, repair, row.command]
