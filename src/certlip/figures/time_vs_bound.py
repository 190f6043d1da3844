"""What a tighter bound costs: time against value over best lower bound, a panel a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.base.record import Kind
from certlip.figures import FigureInfo, style
from certlip.figures._palette import styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Time against bound",
    caption="Wall time of each method, calibration included, against its value divided by the best lower bound of the "
    "network, or against the value itself where there is no lower bound. The grey line joins the certified bounds that "
    "no other certified bound beats in both; lower bounds are left out.",
)


def draw(bounds: pd.DataFrame) -> Figure:
    """Small multiples with common logarithmic axes."""
    rows = style.outside_sweeps(bounds)
    upper = rows[rows["kind"] != Kind.LOWER]
    measure, words = ("ratio", "value / lower") if (upper["ratio"] > 0).any() else ("value", "value")
    drawn = upper[upper[measure] > 0]
    if drawn.empty:
        return style.message("No network has a positive upper value.")
    drawn = drawn.assign(time=style.total_seconds(drawn), height=drawn[measure])
    found = styles(bounds["method"])
    networks = drawn["network"].unique().tolist()
    n_columns = min(len(networks), 2 if len(networks) <= 4 else 3)
    n_rows = -(-len(networks) // n_columns)
    panel_height = 2.0 if n_columns == 1 else 1.35 if n_columns == 2 else 1.15
    figure = style.new_figure(0.35 + panel_height * n_rows, drawn["method"])
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).flatten()
    style.logarithmic(panels[0], "x", drawn["time"], n_ticks={1: 8, 2: 5, 3: 3}[n_columns])
    style.logarithmic(panels[0], "y", [*drawn["height"], *([1.0] if measure == "ratio" else [])])
    for axes, network in zip(panels, networks, strict=False):
        _panel(axes, drawn[drawn["network"] == network], found)
        axes.set_title(style.wrapped(network))
    for axes in panels[len(networks) :]:
        axes.remove()
    for axes in panels[len(networks) - n_columns : len(networks)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("seconds")
    for axes in panels[: len(networks) : n_columns]:
        axes.set_ylabel(words)
    style.legend(figure, drawn, found)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, found: dict[str, style.Style]) -> None:
    axes.grid()
    axes.set_axisbelow(True)
    if (rows["ratio"] > 0).any():
        axes.axhline(1.0, color="#595959", linewidth=0.8, zorder=1)
    certified = rows[rows["kind"] == Kind.CERTIFIED].sort_values(["time", "height"])
    frontier = certified[certified["height"] < certified["height"].cummin().shift(fill_value=float("inf"))]
    axes.step(frontier["time"], frontier["height"], where="post", color="#AAAAAA", linewidth=0.8, zorder=1)
    style.draw_points(axes, rows, "time", "height", found, size=3.6)
