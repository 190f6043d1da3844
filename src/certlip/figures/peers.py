"""Our bounds of networks that others published, divided by theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.base.record import Kind
from certlip.figures import FigureInfo, style, tightness

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Published networks",
    caption="The smallest certified bound of this run divided by each upper bound that a publication prints of the "
    "same network, on a logarithmic axis: left of 1 ours is smaller. Hollow: the published value lies below a lower "
    "bound of ours, hence below the Lipschitz constant.",
)


def draw(bounds: pd.DataFrame) -> Figure:
    """A row a network, a marker a published method."""
    import pandas as pd

    from certlip.tables.peers import comparisons

    published = [found for found in comparisons(bounds) if found.method and not found.is_lower]
    rows = pd.DataFrame(
        {
            "network": found.network,
            "method": found.method,
            "kind": str(Kind.ESTIMATE if found.is_refuted else Kind.CERTIFIED),
            "status": found.status,
            "ratio": found.ratio,
        }
        for found in published
    )
    if rows.empty or not (rows["ratio"] > 0).any():
        return style.message("No network of this configuration has a published bound, or none has one of ours.")
    title = "hollow: theirs is below our lower bound" if (rows["kind"] == Kind.ESTIMATE).any() else ""
    return tightness.dots(rows, rows, "ratio", "ours / theirs", "no bound of ours", title)
