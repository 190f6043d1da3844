"""Networks with orthogonal weights, whose constant is at most 1: the fifth experiment of Sulehman & Mu 2024."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.figures import FigureInfo, style, tightness

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Orthogonal weights",
    caption="Value of each method on networks whose layers have orthogonal weights, so that the Lipschitz constant is "
    "at most 1, the vertical line. A certified bound right of the line is loose.",
)
EXPERIMENT = "orthogonal"


def draw(bounds: pd.DataFrame) -> Figure:
    """A row a network, a marker a method, on a logarithmic axis."""
    rows = bounds[bounds["experiment"] == EXPERIMENT]
    if not (rows["value"] > 0).any():
        return style.message("No network of this configuration has orthogonal weights, or none has a bound.")
    return tightness.dots(bounds, rows, "value", "bound on the constant")
