"""What a finer partition saves and costs: the third experiment of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.figures import FigureInfo, style
from certlip.figures._palette import styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Partition trade-off",
    caption="Certified bound (above) and wall time, calibration included (below), against the number of patches that "
    "the output maps are cut into, a line a merge, a column a network. A line is broken where there is no bound.",
)


def draw(bounds: pd.DataFrame) -> Figure:
    """Two panels a network over the number of patches, both axes logarithmic."""
    from certlip.tables.tradeoff import partitioned

    rows = partitioned(bounds)
    rows = rows.assign(
        method=rows["merge"],
        value=rows["value"].where(rows["value"] > 0),
        time=style.total_seconds(rows).where(rows["value"] > 0),
    )
    if rows["value"].isna().all():
        return style.message("No network of this configuration belongs to the trade-off, or none has a bound.")
    merges = rows["method"].unique()
    looks = styles(f"dcp-{merge}" for merge in merges)
    found = {merge: looks[f"dcp-{merge}"] for merge in merges}
    networks = rows["network"].unique().tolist()
    figure = style.new_figure(3.2, merges)
    panels = figure.subplots(2, len(networks), sharex=True, sharey="row", squeeze=False)
    for (above, below), network in zip(panels.T, networks, strict=True):
        above.set_title(style.wrapped(network))
        below.set_xlabel("patches")
        for axes, column in ((above, "value"), (below, "time")):
            _panel(axes, rows[rows["network"] == network], column, found)
    for axes, column, label in zip(panels[:, 0], ("value", "time"), ("certified bound", "seconds"), strict=True):
        style.logarithmic(axes, "y", rows[column].dropna())
        axes.set_ylabel(label)
    style.logarithmic(panels[0, 0], "x", rows["patches"], n_ticks=6)
    style.legend(figure, rows, found, lines=True)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, column: str, found: dict[str, style.Style]) -> None:
    axes.grid()
    axes.set_axisbelow(True)
    for merge, line in rows.sort_values("patches", kind="stable").groupby("method", sort=False):
        look = found[str(merge)]
        axes.plot(line["patches"], line[column], linestyle=look.dash, color=look.colour)
    style.draw_points(axes, rows, "patches", column, found, size=3.6)
