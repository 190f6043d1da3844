"""What a method costs as images, channels or layers become more."""

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
    title="Scaling",
    caption="Wall time of each method, calibration included, against pixels, channels and layers of padded 3x3 "
    "convolutions with random weights; both axes are logarithmic, and along the grey line time grows in proportion. A "
    "line ends where the method gives nothing below the product of layer norms any more; the table says why.",
)


def draw(bounds: pd.DataFrame) -> Figure:
    """A panel a sweep, one below the other."""
    from certlip.tables.scaling import SWEEPS

    rows = bounds[bounds["experiment"].isin(SWEEPS) & (bounds["kind"] != Kind.LOWER)]
    drawn = rows[rows["value"] > 0]
    if drawn.empty:
        return style.message("No network of this configuration belongs to a sweep of sizes, or none has a bound.")
    product = rows[rows["method"] == "product"].set_index("network")["value"]
    goes_on = (rows["value"] > 0) & ((rows["method"] == "product") | ~(rows["value"] >= rows["network"].map(product)))
    is_side = rows["experiment"] == "scaling_side"
    rows = rows.assign(size=rows["x"].where(~is_side, rows["x"] ** 2), time=style.total_seconds(rows).where(goes_on))
    labels = {**SWEEPS, "scaling_side": "pixels"}
    shown = [experiment for experiment in SWEEPS if experiment in set(drawn["experiment"])]
    found = styles(bounds["method"])
    figure = style.new_figure(0.2 + 1.5 * len(shown), drawn["method"])
    for axes, experiment in zip(figure.subplots(len(shown), 1, squeeze=False).flat, shown, strict=True):
        _panel(axes, rows[rows["experiment"] == experiment].sort_values("x", kind="stable"), found)
        axes.set_xlabel(labels[experiment])
        axes.set_ylabel("seconds")
    style.legend(figure, drawn, found, lines=True)
    return figure


def _panel(axes: Axes, sweep: pd.DataFrame, found: dict[str, style.Style]) -> None:
    import numpy as np

    axes.grid()
    axes.set_axisbelow(True)
    for method, line in sweep.groupby("method", sort=False):
        look = found[str(method)]
        axes.plot(line["size"], line["time"], linestyle=look.dash, color=look.colour)
    style.draw_points(axes, sweep, "size", "time", found, size=3.6)
    timed = sweep[sweep["time"].notna()]
    style.logarithmic(axes, "x", sweep["size"], n_ticks=6)
    style.logarithmic(axes, "y", timed["time"], n_ticks=6)
    limits = axes.get_ylim()
    ends = np.array([sweep["size"].min(), sweep["size"].max()])
    middle = np.exp(np.mean(np.log(timed["time"] / timed["size"])))
    axes.plot(ends, middle * ends, color="#AAAAAA", linewidth=0.8, zorder=1)
    axes.set_ylim(limits)
