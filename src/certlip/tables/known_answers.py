"""Methods where the answer is known: every value divided by the Lipschitz constant itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.base.record import Kind, Status
from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Networks of known constant",
    caption="Value of each method divided by the Lipschitz constant of the network, which is known: at least 1 for a "
    "certified bound, at most 1 for a lower bound; an estimate shows its error.",
)


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns Network and Constant, then one a method; rows are the networks whose constant is known and positive."""
    known = bounds[bounds["known_constant"] > 0]
    methods = known["method"].unique().tolist()
    cells = {(row.network, row.method): _cell(row) for row in known.itertuples(index=False)}
    constants = known.drop_duplicates("network")
    return _cells.frame(
        [
            [network, _cells.number(constant), *(cells.get((network, method), _cells.NONE) for method in methods)]
            for network, constant in zip(constants["network"], constants["known_constant"], strict=True)
        ],
        columns=["Network", "Constant", *methods],
    )


def _cell(row: Any) -> str:
    if row.status != Status.OK:
        return str(row.status)
    quotient = row.value / row.known_constant
    # four digits, rounded to the safe side, would hide how close to 1 a value is
    text = _cells.marked(quotient, Kind(row.kind), digits=6)
    return f"{text} ({100 * (quotient - 1):+.1f}%)" if row.kind == Kind.ESTIMATE else text
