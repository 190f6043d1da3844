"""What the programs of automatic plans took, against what was predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.base.record import Kind
from certlip.figures import FigureInfo, style
from certlip.figures._palette import styles_in_order

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Predictions",
    caption="Actual seconds (left) and peak memory (right) of each program of an automatic plan that no limit ended, "
    "against what was predicted; on the line both are equal, in the grey band they are less than a factor of 2 apart.",
    source="predictions",
)
SHAPES = ["alone", "joint", "chained"]


def draw(rows: pd.DataFrame) -> Figure:
    """Two panels with a marker a program, all axes logarithmic."""
    from certlip.tables.predictions import with_factors

    done = with_factors(rows)
    if done.empty:
        return style.message("No program of an automatic plan ended within its limits.")
    drawn = done.assign(method=done["shape"], kind=str(Kind.CERTIFIED)).sort_values("method", key=_place)
    found = styles_in_order(SHAPES)
    figure = style.new_figure(1.9, drawn["method"])
    left, right = figure.subplots(1, 2)
    for column in ("predicted_seconds", "seconds"):
        drawn[column] = drawn[column].clip(lower=style.CLOCK)
    for axes, predicted, actual, unit in (
        (left, "predicted_seconds", "seconds", "seconds"),
        (right, "predicted_mb", "peak_mb", "MB"),
    ):
        _panel(axes, [*drawn[predicted], *drawn[actual]])
        style.draw_points(axes, drawn, predicted, actual, found, size=3.2)
        axes.set_xlabel(f"predicted {unit}")
        axes.set_ylabel(f"actual {unit}")
    style.legend(figure, drawn, found, title="")
    return figure


def _place(shapes: pd.Series) -> pd.Series:
    return shapes.map(SHAPES.index)


def _panel(axes: Axes, values: list[float]) -> None:
    """The same range on both axes, the diagonal and the band of a factor of 2."""
    ends = [min(values) / 3, max(values) * 3]
    style.logarithmic(axes, "x", ends, n_ticks=4)
    style.logarithmic(axes, "y", ends, n_ticks=6)
    axes.fill_between(ends, [end / 2 for end in ends], [2 * end for end in ends], color="#EEEEEE", zorder=0)
    axes.plot(ends, ends, color="#AAAAAA", linewidth=0.8, zorder=1)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
