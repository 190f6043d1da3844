"""How far every value is from the best lower bound, network by network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.base.record import Status
from certlip.figures import FigureInfo, style
from certlip.figures._palette import styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Tightness",
    caption="Value divided by the best lower bound of the network: the true constant lies between 1 and the leftmost "
    "filled marker. An estimate left of 1 is below the true constant. A method without a value on a network has no "
    "marker there; networks of a sweep are in the figure of their sweep.",
)


def draw(bounds: pd.DataFrame) -> Figure:
    """A row a network, a marker a method, on a logarithmic axis."""
    rows = style.outside_sweeps(bounds)
    if not (rows["ratio"] > 0).any():
        return style.message("No network has a positive lower bound to compare with.")
    return dots(bounds, rows, "ratio", "value / best lower bound")


def dots(
    bounds: pd.DataFrame,
    rows: pd.DataFrame,
    column: str,
    label: str,
    otherwise: str = "no positive lower bound",
    title: str | None = None,
) -> Figure:
    """A column of some rows of `bounds`, of which at least one is positive, beside the line at 1.

    otherwise: what to say of a network that has all its data and no marker; title: of the legend.
    """
    drawn = rows[rows[column] > 0]
    networks = rows["network"].unique().tolist()
    methods = drawn["method"].unique().tolist()
    found = styles(bounds["method"])
    labels = [style.wrapped(name) for name in networks]
    row_height = max(0.16 + 0.014 * len(methods), 0.12 + 0.12 * max(label.count("\n") + 1 for label in labels))
    figure = style.new_figure(0.45 + row_height * len(networks), methods)
    axes = figure.add_subplot()
    axes.set_yticks(range(len(networks)), labels)
    _rows(axes, [_missing(rows[rows["network"] == network], column, otherwise) for network in networks])
    lane = (drawn["method"].map(methods.index) + 0.5) / len(methods) - 0.5
    drawn = drawn.assign(y=drawn["network"].map(networks.index) + 0.8 * lane)
    style.draw_points(axes, drawn, column, "y", found)
    style.logarithmic(axes, "x", [*drawn[column], 1.0])
    axes.set_xlabel(label)
    style.legend(figure, drawn, found, title=title)
    return figure


def _missing(rows: pd.DataFrame, column: str, otherwise: str) -> str:
    """Why a network has no marker, empty where it has."""
    if (rows[column] > 0).any():
        return ""
    return "waits for data" if (rows["status"] == Status.NO_DATA).any() else otherwise


def _rows(axes: Axes, missing: list[str]) -> None:
    axes.set_ylim(len(missing) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.axvline(1.0, color="#595959", linewidth=0.8, zorder=1)
    for index, reason in enumerate(missing):
        band = "#F4F4F4" if index % 2 else "white"
        axes.axhspan(index - 0.5, index + 0.5, color=band, zorder=0)
        if reason:
            where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "center", "va": "center"}
            patch: dict[str, Any] = {"facecolor": band, "edgecolor": "none", "pad": 1}
            axes.text(0.5, index, reason, style="italic", bbox=patch, **where)
