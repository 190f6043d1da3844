"""Bound and time against the number of channels: the first experiment of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.figures import FigureInfo, style
from certlip.figures._palette import styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Width sweep",
    caption="Value (above) and wall time, calibration included (below), of each method on convolutional blocks of "
    "growing width. A line is broken where the method gave no value.",
)
EXPERIMENT = "width_sweep"


def draw(bounds: pd.DataFrame) -> Figure:
    """Two panels over the number of channels, both logarithmic."""
    sweep = bounds[bounds["experiment"] == EXPERIMENT].sort_values("x", kind="stable")
    drawn = bounds[(bounds["experiment"] == EXPERIMENT) & (bounds["value"] > 0)]
    if drawn.empty:
        return style.message("No network of this configuration belongs to a width sweep, or none has a bound.")
    found = styles(bounds["method"])
    sweep = sweep.assign(
        value=sweep["value"].where(sweep["value"] > 0),
        time=style.total_seconds(sweep).where(sweep["value"] > 0),
    )
    figure = style.new_figure(3.4, drawn["method"])
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, column, label in ((above, "value", "bound on the constant"), (below, "time", "seconds")):
        _panel(axes, sweep, column, found)
        axes.set_ylabel(label)
    below.set_xlabel("channels")
    channels = sorted(sweep["x"].unique())
    below.set_xticks(channels[:: -(-len(channels) // 8)])
    style.legend(figure, drawn, found, lines=True)
    return figure


def _panel(axes: Axes, sweep: pd.DataFrame, column: str, found: dict[str, style.Style]) -> None:
    style.logarithmic(axes, "y", sweep[column].dropna())
    axes.grid()
    axes.set_axisbelow(True)
    for method, rows in sweep.groupby("method", sort=False):
        line = found[str(method)]
        axes.plot(rows["x"], rows[column], linestyle=line.dash, color=line.colour)
    style.draw_points(axes, sweep, "x", column, found, size=3.6)
