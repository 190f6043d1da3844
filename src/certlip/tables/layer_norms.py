"""Spectral norms of convolution layers, rival against rival: layers down, rivals across."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.base.record import Kind
from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Norms of layers",
    caption="Value of each rival divided by the norm of the layer, with the wall time of one call; in square brackets "
    "the value that a paper prints for a layer of this kind, whose weights were another draw. The norm is proved from "
    "above: that of the layer's own matrix where it is small, else that of its torus, which bounds zero padding.",
    source="layer_norms",
)


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns Layer and Norm, then one a rival, both in the order of `rows`."""
    rivals = rows["title"].unique().tolist()
    cells = {(row.layer, row.title): _cell(row) for row in rows.itertuples(index=False)}
    layers = rows.drop_duplicates("layer")
    return _cells.frame(
        [
            [
                layer,
                _norm(norm),
                *(cells.get((layer, rival), _cells.NONE) for rival in rivals),
            ]
            for layer, norm in zip(layers["layer"], layers["norm"], strict=True)
        ],
        columns=["Layer", "Norm", *rivals],
    )


def _norm(value: float) -> str:
    return _cells.marked(value, Kind.CERTIFIED, digits=5)


def _cell(row: Any) -> str:
    # four digits would hide what five steps of Gram iteration leave
    text = f"{_cells.marked(row.ratio, Kind(row.kind), digits=5)} ({_cells.seconds(row.seconds)} s)"
    return text if _cells.is_missing(row.published) else f"{text} [{_cells.number(row.published)}]"
