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
    caption="Bound (above) and wall time, calibration included (below), against the number of patches that the output "
    "maps are cut into, a line a merge, a column a network; a level line for each method whose partition is not given. "
    "A line is broken where there is no bound.",
)


def draw(bounds: pd.DataFrame) -> Figure:
    """Two panels a network over the number of patches, both axes logarithmic."""
    import pandas as pd

    from certlip.tables.tradeoff import partitioned, unpartitioned

    cut, others = partitioned(bounds), unpartitioned(bounds)
    if not (cut["value"] > 0).any():
        return style.message("No network of this configuration belongs to the trade-off, or none has a bound.")
    looks = styles([*(f"dcp-{merge}" for merge in cut["merge"]), *others["method"]])
    found = {f"merge {merge}": looks[f"dcp-{merge}"] for merge in cut["merge"]} | looks
    rows = pd.concat([others[others["value"] > 0], cut.assign(method="merge " + cut["merge"])])
    rows = rows.assign(
        value=rows["value"].where(rows["value"] > 0),
        time=style.total_seconds(rows).where(rows["value"] > 0),
    )
    networks = rows["network"].unique().tolist()
    figure = style.new_figure(3.6, rows["method"])
    panels = figure.subplots(2, len(networks), sharex=True, sharey="row", squeeze=False)
    for (above, below), network in zip(panels.T, networks, strict=True):
        above.set_title(style.wrapped(network))
        below.set_xlabel("patches")
        for axes, column in ((above, "value"), (below, "time")):
            _panel(axes, rows[rows["network"] == network], column, found)
    for axes, column, label in zip(panels[:, 0], ("value", "time"), ("bound on the constant", "seconds"), strict=True):
        style.logarithmic(axes, "y", rows[column].dropna())
        axes.set_ylabel(label)
    left = fewest = cut["patches"].min()
    if others["value"].notna().any():  # room for the markers of level lines
        left = fewest / max(2.0, cut["patches"].max() / fewest) ** 0.25
    style.logarithmic(panels[0, 0], "x", [left, *cut["patches"]], n_ticks=6)
    if left < fewest:
        panels[0, 0].set_xlim(left=left)
    style.legend(figure, rows, found, lines=True)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, column: str, found: dict[str, style.Style]) -> None:
    axes.grid()
    axes.set_axisbelow(True)
    is_level = rows["patches"].isna()
    levels = rows[is_level].sort_values(column)
    for place, (method, kind, height) in enumerate(levels[["method", "kind", column]].itertuples(index=False)):
        look = found[method]
        axes.axhline(height, linestyle=look.dash, color=look.colour)
        beside = style.point(look, kind, 3.6) | {"transform": axes.get_yaxis_transform(), "linestyle": ""}
        axes.plot([0.03 + 0.05 * (place % 3)], [height], **beside)
    curves = rows[~is_level].sort_values("patches", kind="stable")
    for merge, line in curves.groupby("method", sort=False):
        look = found[str(merge)]
        axes.plot(line["patches"], line[column], linestyle=look.dash, color=look.colour)
    style.draw_points(axes, curves, "patches", column, found, size=3.6)
