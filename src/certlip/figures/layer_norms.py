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
    caption="How far each rival lies above the norm of the layer, relative to it (left); wall time of a call (right). "
    "The norm is proved from above: that of the layer's own matrix where it is small, else that of its torus, which "
    "bounds zero padding. Power iteration lies below it where it has not converged or the padding matters. Rows as "
    "published show what a paper prints for a layer of this kind, relative to the norm it prints.",
    source="layer_norms",
)

_PUBLISHED = ", published"

_LINEAR = 1e-3
"""Excess up to which the left axis is linear."""


def draw(rows: pd.DataFrame) -> Figure:
    """Two panels with a row a layer and a marker a rival."""
    if rows.empty:
        return style.message("No layer was measured.")
    found = styles_in_order(rows["title"])
    rows = _with_published(rows)
    rows = rows.assign(method=rows["title"], excess=rows["ratio"] - 1, time=rows["seconds"].clip(lower=style.CLOCK))
    layers, rivals = rows["layer"].unique().tolist(), rows["method"].unique().tolist()
    lane = (rows["method"].map(rivals.index) + 0.5) / len(rivals) - 0.5
    rows = rows.assign(y=rows["layer"].map(layers.index) + 0.8 * lane)
    labels = [_label(layer) for layer in layers]
    row_height = max(0.24, 0.08 + 0.12 * max(label.count("\n") + 1 for label in labels))
    figure = style.new_figure(0.45 + row_height * len(layers), rivals)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(6, 5))
    left.set_yticks(range(len(layers)), labels)
    left.set_ylim(len(layers) - 0.5, -0.5)
    for axes, column, label in ((left, "excess", "value / norm - 1"), (right, "time", "seconds")):
        _panel(axes, len(layers))
        style.draw_points(axes, rows, column, "y", found, size=3.2)
        axes.set_xlabel(label)
    left.axvline(0.0, color="#595959", linewidth=0.8, zorder=1)
    _excess_axis(left, rows["excess"])
    style.logarithmic(right, "x", rows["time"].dropna(), n_ticks=4)
    style.legend(figure, rows, found)
    return figure


def _with_published(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, and after those of a layer whose exact norm a paper prints, what it prints, without times."""
    import pandas as pd

    parts = []
    for layer, group in rows.groupby("layer", sort=False):
        parts.append(group)
        exact = group.loc[group["method"] == "svd", "published"].dropna()
        if len(exact):
            printed = group[group["published"].notna()]
            ratio = printed["published"] / exact.item()
            parts.append(printed.assign(layer=f"{layer}{_PUBLISHED}", ratio=ratio, seconds=float("nan")))
    return pd.concat(parts)


def _label(layer: str) -> str:
    return "as published" if layer.endswith(_PUBLISHED) else textwrap.fill(layer, 24, break_on_hyphens=False)


def _excess_axis(axes: Axes, excess: pd.Series) -> None:
    """Logarithmic on both sides of zero, a label every other power of ten."""
    from matplotlib.ticker import FixedLocator

    axes.set_xscale("symlog", linthresh=_LINEAR, linscale=0.5)
    axes.set_xlim(1.6 * min(excess.min(), -5 * _LINEAR), 1.6 * max(excess.max(), 5 * _LINEAR))
    axes.set_xticks([-0.1, 0.0, 0.01, 1.0], ["-0.1", "0", "0.01", "1"])
    axes.xaxis.set_minor_locator(FixedLocator([-0.01, -_LINEAR, _LINEAR, 0.1, 10.0]))


def _panel(axes: Axes, n_layers: int) -> None:
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for index in range(1, n_layers, 2):
        axes.axhspan(index - 0.5, index + 0.5, color="#F4F4F4", zorder=0)
