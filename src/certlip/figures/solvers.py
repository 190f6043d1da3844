"""Seconds of semidefinite solvers against the order of the problem, and where each hit a limit."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from certlip.base.record import Kind, Status
from certlip.figures import FigureInfo, style
from certlip.figures._palette import DASHES, Style, styles_in_order
from certlip.tables.solvers import OURS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Semidefinite solvers",
    caption="Wall time of solving and certifying against the order of the matrix inequality, ours thick. A cross below "
    "marks an order at which a solver reached the time limit, a plus the memory limit; a solver that gave no certified "
    "answer for another reason has no marker at that order.",
    source="solvers",
)

_LIMITS = {Status.TIME_LIMIT: ("x", "×  time limit"), Status.MEMORY_LIMIT: ("+", "+  memory limit")}


def draw(rows: pd.DataFrame) -> Figure:
    """A line a solver and number of threads, both axes logarithmic, above a lane for each that hit a limit."""
    rows = rows.assign(method=_names(rows), kind=Kind.CERTIFIED, time=rows["seconds"].clip(lower=style.CLOCK))
    solved = rows[rows["status"] == Status.OK].sort_values("order", kind="stable")
    limited = rows[rows["status"].isin(list(_LIMITS)) & rows["tried"].astype(bool)]
    if solved.empty:
        return style.message("No solver gave a certified answer.")
    shown = rows[rows["method"].isin({*solved["method"], *limited["method"]})]
    names = limited["method"].unique().tolist()
    found = _styles(shown)
    lanes = 0.08 + 0.13 * len(names)
    figure = style.new_figure(2.6 + lanes * bool(names), shown["method"])
    heights = [2.2, lanes][: 1 + bool(names)]
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights).flatten()
    style.logarithmic(panels[0], "x", shown["order"])
    _times(panels[0], solved, found)
    if names:
        _limits(panels[-1], limited, names, found)
    panels[-1].set_xlabel("order of the matrix inequality")
    style.legend(figure, shown, found, lines=True, title=_legend_title(rows, limited))
    return figure


def _names(rows: pd.DataFrame) -> pd.Series:
    """A solver's title without what stands in brackets, and its threads where they differ."""
    titles = rows["title"].map(lambda title: title.partition(" (")[0])
    return titles if rows["threads"].nunique() < 2 else titles + ", " + rows["threads"].astype(str)


def _styles(rows: pd.DataFrame) -> dict[str, Style]:
    """Colour and marker by solver, the same for ours whatever it is compared with; dash by threads."""
    looks = styles_in_order([OURS, *rows["solver"]])
    dashes = dict(zip(sorted(rows["threads"].unique()), itertools.cycle(DASHES), strict=False))
    pairs = rows.drop_duplicates("method")[["method", "solver", "threads"]].itertuples(index=False)
    return {name: replace(looks[solver], dash=dashes[threads]) for name, solver, threads in pairs}


def _legend_title(rows: pd.DataFrame, limited: pd.DataFrame) -> str:
    hit = [words for status, (_, words) in _LIMITS.items() if status in set(limited["status"])]
    return "   ".join([*(["solver, threads"] if rows["threads"].nunique() > 1 else []), *hit])


def _times(axes: Axes, solved: pd.DataFrame, found: dict[str, Style]) -> None:
    style.logarithmic(axes, "y", solved["time"])
    axes.set_ylabel("seconds")
    axes.grid()
    axes.set_axisbelow(True)
    for (name, solver), group in solved.groupby(["method", "solver"], sort=False):
        line, width = found[str(name)], 2.2 if solver == OURS else 0.9
        axes.plot(group["order"], group["time"], linestyle=line.dash, color=line.colour, linewidth=width)
    style.draw_points(axes, solved, "order", "time", found, size=3.6)


def _limits(axes: Axes, limited: pd.DataFrame, names: list[str], found: dict[str, Style]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for (name, status), group in limited.groupby(["method", "status"], sort=False):
        lane, (marker, _) = names.index(str(name)), _LIMITS[Status(str(status))]
        where: dict[str, Any] = {"linestyle": "", "marker": marker, "markersize": 4.5}
        axes.plot(group["order"], [lane] * len(group), color=found[str(name)].colour, **where)
