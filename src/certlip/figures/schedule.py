"""Wall time and efficiency of the run on other numbers of cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.base.record import Kind
from certlip.figures import FigureInfo, style
from certlip.figures._palette import styles_in_order

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Schedule",
    caption="Wall time (left) and efficiency (right) of the jobs of this run against the number of cores, simulated "
    "from what each took; dashed: all work / cores + the longest chain.",
    source="schedule",
)

_SIMULATED = "simulated"


def draw(rows: pd.DataFrame) -> Figure:
    """Two panels, cores logarithmic."""
    run = rows[rows["part"] == "run"].assign(method=_SIMULATED, kind=str(Kind.CERTIFIED))
    if run.empty:
        return style.message("No run was simulated.")
    found = styles_in_order([_SIMULATED])
    figure = style.new_figure(1.9)
    left, right = figure.subplots(1, 2)
    left.plot(
        run["cores"], run["work_and_chain_seconds"], color="#AAAAAA", linestyle="--", label="work / cores + chain"
    )
    for axes, column, label in ((left, "seconds", "seconds"), (right, "efficiency", "efficiency")):
        axes.plot(run["cores"], run[column], color=found[_SIMULATED].colour, label=_SIMULATED if axes is left else "")
        style.draw_points(axes, run, "cores", column, found, size=3.6)
        style.logarithmic(axes, "x", run["cores"], n_ticks=4)
        axes.set_xlabel("cores")
        axes.set_ylabel(label)
        axes.grid()
        axes.set_axisbelow(True)
    style.logarithmic(left, "y", [*run["seconds"], *run["work_and_chain_seconds"]])
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    right.set_ylim(0, 1.05)
    return figure
