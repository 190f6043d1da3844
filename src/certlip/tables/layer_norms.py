"""Spectral norms of convolution layers, rival against rival: layers down, rivals across."""

from __future__ import annotations

from typing import Any

import pandas as pd

from certlip.record import Kind
from certlip.tables import TableInfo, _cells

INFO = TableInfo(
    title="Norms of layers",
    caption="Value of each rival divided by the norm of the layer on its torus, with the wall time of one call; in "
    "brackets the value a paper prints for such a layer with other weights of the same distribution.",
    source="layer_norms",
)


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns Layer and Exact, then one a rival, both in the order of `rows`."""
    rivals = rows["title"].unique().tolist()
    cells = {(row.layer, row.title): _cell(row) for row in rows.itertuples(index=False)}
    layers = rows.drop_duplicates("layer")
    return pd.DataFrame(
        [
            [layer, _cells.number(exact, digits=5), *(cells.get((layer, rival), _cells.NONE) for rival in rivals)]
            for layer, exact in zip(layers["layer"], layers["exact"], strict=True)
        ],
        columns=["Layer", "Exact", *rivals],
        dtype="str",
    )


def _cell(row: Any) -> str:
    # four digits would hide what five steps of Gram iteration leave
    text = f"{_cells.marked(row.ratio, Kind(row.kind), digits=5)} ({_cells.seconds(row.seconds)} s)"
    return text if pd.isna(row.published) else f"{text} [{_cells.number(row.published)}]"
