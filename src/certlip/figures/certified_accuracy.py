"""Certified accuracy over radii: a curve a method, below what an attack leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.base.record import Kind, Status
from certlip.figures import FigureInfo, style
from certlip.figures._palette import Style, styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Certified accuracy",
    caption="Share of test images that are proved to stay right within an l2 radius in pixels, by each method (lines), "
    "and that an attack leaves right (dashed, grey): the truth lies between. Constants around images are of the radii "
    "asked for (marks). Dotted: images that are right. Crosses: what publications print of the same weights and "
    "images.",
    source="certified_accuracy",
)
N_COLUMNS = 2
ATTACK = "#595959"


def draw(rows: pd.DataFrame) -> Figure:
    """A panel a network."""
    drawn = rows[(rows["status"] == Status.OK) & rows["certified"].notna()]
    own = drawn[drawn["reported_by"].isna()]
    if own.empty:
        return style.message("No predictions are certified in this configuration, or their networks have no bound.")
    methods, networks = own["method"].unique(), own["network"].unique()
    found = styles(methods)
    n_columns = min(N_COLUMNS, len(networks))
    n_rows = -(-len(networks) // n_columns)
    figure = style.new_figure(0.3 + 1.45 * n_rows, methods)
    panels = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    for axes in panels.flat[len(networks) :]:
        axes.remove()
    for axes, network in zip(panels.flat, networks, strict=False):
        _panel(axes, drawn[drawn["network"] == network], found)
        axes.set_title(style.wrapped(network, 26))
    for axes in panels.flat[max(0, len(networks) - n_columns) : len(networks)]:
        axes.set_xlabel("radius (l2, pixels)")
    for axes in panels[:, 0]:
        axes.set_ylabel("images, %")
    style.legend(figure, own.assign(kind=str(Kind.CERTIFIED)), found, lines=True, title="")
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, found: dict[str, Style]) -> None:
    own, others = rows[rows["reported_by"].isna()], rows[rows["reported_by"].notna()]
    first = own[own["method"] == own["method"].iloc[0]].sort_values("radius")
    axes.plot(first["radius"], 100 * first["clean"], color=ATTACK, linestyle=":")
    tried = first[first["radius"] <= first["radius"].where(first["asked"].astype(bool)).max()]
    axes.plot(tried["radius"], 100 * tried["attacked"], color=ATTACK, linestyle="--")
    for method, curve in own.groupby("method", sort=False):
        curve, line = curve.sort_values("radius"), found[str(method)]
        axes.plot(curve["radius"], 100 * curve["certified"], color=line.colour, linestyle=line.dash)
        asked = curve[curve["asked"].astype(bool)]
        marks = style.point(line, Kind.CERTIFIED, 3.0)
        axes.plot(asked["radius"], 100 * asked["certified"], linestyle="", **marks)
    axes.plot(others["radius"], 100 * others["certified"], linestyle="", marker="x", color="black", markersize=4)
    for name, radius, share in zip(others["method"], others["radius"], 100 * others["certified"], strict=True):
        is_best = share == 100 * others["certified"].max()
        offset, side = ((-3, 2), "bottom") if is_best else ((-3, -2), "top")
        axes.annotate(
            str(name), (radius, share), xytext=offset, textcoords="offset points", ha="right", verticalalignment=side
        )
    axes.set_xlim(0.0, first["radius"].max())
    axes.set_ylim(0.0, 100.0)
    axes.grid()
    axes.set_axisbelow(True)
