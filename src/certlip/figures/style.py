"""What all figures share: fonts, sizes, how a kind is marked, legends and logarithmic axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from certlip.base.record import Kind
from certlip.figures._palette import LOWER_MARKER, Style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH = 3.4
"""Width of one column of a two-column paper, inches."""

CLOCK = 1e-3
"""Shortest time drawn, seconds: below it start-up noise is measured."""

_RC: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "grid.linewidth": 0.4,
    "grid.color": "#DDDDDD",
    "lines.linewidth": 0.9,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "svg.hashsalt": "certlip",
    "figure.constrained_layout.use": True,
}


@contextmanager
def applied() -> Iterator[None]:
    """Matplotlib's settings for drawing and saving; what they were before comes back afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def new_figure(height: float, methods: Iterable[str] = ()) -> Figure:
    """An empty figure one column wide; height in inches, to which the room for a `legend` of the methods is added."""
    from matplotlib.figure import Figure

    methods = set(methods)
    legend_height = 0.2 + 0.15 * math.ceil(len(methods) / _legend_columns(methods)) if methods else 0.0
    return Figure(figsize=(COLUMN_WIDTH, height + legend_height), layout="constrained")


def _legend_columns(methods: Iterable[str]) -> int:
    longest = max(map(len, methods))
    return 3 if longest <= 17 else 2 if longest <= 26 else 1


def message(text: str) -> Figure:
    """A figure that says in words why there is nothing to draw."""
    figure = new_figure(0.8)
    figure.text(0.5, 0.5, textwrap.fill(text, 56), ha="center", va="center")
    return figure


def outside_sweeps(bounds: pd.DataFrame) -> pd.DataFrame:
    """Rows of networks that are in no sweep, or all where every network is: a sweep has a figure of its own."""
    outside = bounds[bounds["experiment"] == ""]
    return outside if len(outside) else bounds


def total_seconds(rows: pd.DataFrame) -> pd.Series:
    """Wall time with the cost of choosing a partition, seconds, fit for a logarithmic axis."""
    return (rows["seconds"] + rows["calibration_seconds"]).clip(lower=CLOCK)


def draw_points(axes: Axes, rows: pd.DataFrame, x: str, y: str, found: dict[str, Style], size: float = 4.5) -> None:
    """A marker a row at columns `x` and `y`, in the colour of its method and as its kind is marked."""
    for (method, kind), group in rows.groupby(["method", "kind"], sort=False):
        axes.plot(group[x], group[y], linestyle="", **point(found[str(method)], str(kind), size))


def point(style: Style, kind: str, size: float) -> dict[str, Any]:
    """Arguments of `Axes.plot` for one marker: certified filled, estimate hollow, lower a triangle."""
    return {
        "marker": LOWER_MARKER if kind == Kind.LOWER else style.marker,
        "markersize": size * (1.25 if style.marker in "*PX" else 0.85 if style.marker == "D" else 1),
        "markerfacecolor": "white" if kind == Kind.ESTIMATE else style.colour,
        "markeredgecolor": style.colour,
        "markeredgewidth": 0.9,
        "color": style.colour,
    }


_KIND_WORDS = {
    Kind.CERTIFIED: "filled: certified",
    Kind.ESTIMATE: "hollow: estimate",
    Kind.LOWER: "triangle: lower bound",
}


def legend(
    figure: Figure, drawn: pd.DataFrame, found: dict[str, Style], *, lines: bool = False, title: str | None = None
) -> None:
    """One entry a method below the figure, in the order of the rows; title: by default how kinds are marked."""
    from matplotlib.lines import Line2D

    kinds = drawn.drop_duplicates("method").set_index("method")["kind"]
    marks = "   ".join(words for kind, words in _KIND_WORDS.items() if kind in set(kinds))
    handles = []
    for method, kind in zip(kinds.index.astype(str), kinds, strict=True):
        dash: Any = found[method].dash if lines else ""
        handles.append(Line2D([], [], label=method, linestyle=dash, **point(found[method], kind, 4.5)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=_legend_columns(kinds.index),
        frameon=False,
        handlelength=2.6 if lines else 1.0,
        handletextpad=0.4,
        columnspacing=1.0,
        labelspacing=0.3,
        borderpad=0.1,
        title=marks if title is None else title,
    )


def logarithmic(axes: Axes, which: Literal["x", "y"], values: Iterable[float], n_ticks: int = 8) -> None:
    """Make an axis logarithmic for positive values, with at least two plain numbers on it, however short it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    values = list(values)
    low, high = min(values), max(values)
    decades = math.log10(high) - math.log10(low)
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    if decades < 0.4:  # left alone, an axis over one value spans two decades
        margin = 10 ** (0.05 * max(decades, 0.2))
        (axes.set_xlim if which == "x" else axes.set_ylim)(low / margin, high * margin)
        axis.set_major_locator(MaxNLocator(5))
    else:
        ladders = ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0), 0.097), ((1.0, 2.0, 5.0), 0.3), ((1.0, 3.0), 0.47)
        # with the smallest distance of its numbers in decades: the densest one whose labels have room
        subs = next((subs for subs, gap in ladders if gap * n_ticks >= decades), (1.0,))
        axis.set_major_locator(LogLocator(subs=subs, numticks=n_ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(NullFormatter())
    if decades <= 0.9:
        axis.set_minor_locator(NullLocator())


def plain(value: float) -> str:
    """A tick label: 0.01, 50, 3000; powers of ten beyond."""
    exponent = math.floor(math.log10(value) + 1e-9)
    if -4 < exponent < 4:
        return f"{value:.10g}"
    mantissa = value / 10.0**exponent
    return f"$10^{{{exponent}}}$" if abs(mantissa - 1) < 1e-6 else f"${mantissa:.3g}\\times10^{{{exponent}}}$"


def wrapped(name: str, width: int = 17) -> str:
    """A network's name on as many lines as it needs, broken after a hyphen or underscore where there is one."""
    spaced = name.replace("_", "_\u200b").replace("-", "-\u200b").split("\u200b")
    lines = [""]
    for piece in spaced:
        if lines[-1] and len(lines[-1] + piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(part for line in lines for part in textwrap.wrap(line, width))
