"""How tight and how dear each rival's norm of a layer is, layer by layer."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from certlip.figures import FigureInfo, style
from certlip.figures._palette import styles_in_order

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Norms of layers",
    caption="Value of each rival divided by the norm of the layer on its torus (left); wall time of one call (right). "
    "A value left of 1 is below the true norm.",
    source="layer_norms",
)


def draw(rows: pd.DataFrame) -> Figure:
    """Two panels with a row a layer and a marker a rival, on logarithmic axes."""
    if rows.empty:
        return style.message("No layer was measured.")
    found = styles_in_order(rows["title"])
    rows = rows.assign(method=rows["title"], time=rows["seconds"].clip(lower=style.CLOCK))
    layers, rivals = rows["layer"].unique().tolist(), rows["method"].unique().tolist()
    lane = (rows["method"].map(rivals.index) + 0.5) / len(rivals) - 0.5
    rows = rows.assign(y=rows["layer"].map(layers.index) + 0.8 * lane)
    labels = [textwrap.fill(layer, 24, break_on_hyphens=False) for layer in layers]
    row_height = max(0.24, 0.08 + 0.12 * max(label.count("\n") + 1 for label in labels))
    figure = style.new_figure(0.45 + row_height * len(layers), rivals)
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_yticks(range(len(layers)), labels)
    left.set_ylim(len(layers) - 0.5, -0.5)
    for axes, column, label in ((left, "ratio", "value / exact"), (right, "time", "seconds")):
        _panel(axes, len(layers))
        style.draw_points(axes, rows, column, "y", found, size=3.2)
        style.logarithmic(axes, "x", rows[column], n_ticks=5)
        axes.set_xlabel(label)
    left.axvline(1.0, color="#595959", linewidth=0.8, zorder=1)
    style.legend(figure, rows, found)
    return figure


def _panel(axes: Axes, n_layers: int) -> None:
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for index in range(1, n_layers, 2):
        axes.axhspan(index - 0.5, index + 0.5, color="#F4F4F4", zorder=0)
