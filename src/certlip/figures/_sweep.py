"""Bound and time along a sweep, for networks with random weights and for trained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.figures import style
from certlip.figures._palette import styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(bounds: pd.DataFrame, experiment: str, axis: str) -> Figure:
    """Two panels one above the other, a pair for each kind of weights that has rows; bounds and times logarithmic."""
    kinds = {"random": experiment, "trained": f"{experiment}_trained"}
    rows = bounds[bounds["experiment"].isin(kinds.values())].sort_values("x", kind="stable")
    drawn = rows[rows["value"] > 0]
    if drawn.empty:
        return style.message(f"No network of this configuration belongs to the sweep over {axis}, or none has a bound.")
    found = styles(bounds["method"])
    rows = rows.assign(
        value=rows["value"].where(rows["value"] > 0),
        time=style.total_seconds(rows).where(rows["value"] > 0),
    )
    shown = {kind: name for kind, name in kinds.items() if name in set(drawn["experiment"])}
    figure = style.new_figure(3.4, drawn["method"])
    panels = figure.subplots(2, len(shown), sharex="col", sharey="row", squeeze=False)
    for axes, column in zip(panels[:, 0], ("value", "time"), strict=True):
        style.logarithmic(axes, "y", rows[column].dropna())
    for (above, below), (kind, name) in zip(panels.T, shown.items(), strict=True):
        part = rows[rows["experiment"] == name]
        for axes, column in ((above, "value"), (below, "time")):
            _panel(axes, part, column, found)
        if len(shown) > 1:
            above.set_title(kind)
        below.set_xlabel(axis)
        ticks = sorted(part["x"].unique())
        below.set_xticks(ticks[:: -(-len(ticks) // 8)])
    panels[0, 0].set_ylabel("bound on the constant")
    panels[1, 0].set_ylabel("seconds")
    style.legend(figure, drawn, found, lines=True)
    return figure


def _panel(axes: Axes, sweep: pd.DataFrame, column: str, found: dict[str, style.Style]) -> None:
    axes.grid()
    axes.set_axisbelow(True)
    for method, rows in sweep.groupby("method", sort=False):
        line = found[str(method)]
        axes.plot(rows["x"], rows[column], linestyle=line.dash, color=line.colour)
    style.draw_points(axes, sweep, "x", column, found, size=3.6)
