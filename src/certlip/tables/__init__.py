"""Tables, one file each: a file turns the rows of `certlip.collect`, or of a benchmark, into cells fit to print.

A table defines ``INFO = TableInfo(...)`` and ``make(rows) -> DataFrame`` of strings from the rows `INFO` names.
`_cells.frame` makes it: the Snakefile imports every table, and pandas is slow to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from certlip.base import plugins
from certlip.base.errors import ConfigError
from certlip.base.files import write_atomically

if TYPE_CHECKING:  # the Snakefile asks for names and captions in every job
    import pandas as pd
    from rich.console import Console

LEGEND = (
    "≤ certified upper bound, ≥ lower bound, ~ estimate, which may lie on either side; a word says why none is there."
)
EMPTY = "No network of this configuration belongs to this table."


@dataclass(frozen=True)
class TableInfo:
    """What a table says of itself.

    title: a few words; caption: sentences in plain text; source: ``bounds``, the comparison, ``predictions``
    (`certlip.predictions`), ``certified_accuracy`` (`certlip.certify.accuracies`), ``claims_of_others``
    (`certlip.claims`), ``schedule`` (`certlip.schedule`), or a benchmark's name.
    """

    title: str
    caption: str
    source: str = "bounds"


def names() -> list[str]:
    """Names of the tables."""
    return plugins.names(__name__)


def load(name: str) -> ModuleType:
    """The table's module; an unknown name is a ConfigError that offers the nearest."""
    return plugins.load(__name__, name)


def write(name: str, bounds: pd.DataFrame, paths: Iterable[str | Path]) -> None:
    """Write one table to each path as its suffix says: .csv, .html, .md, .tex; raises ConfigError for another."""
    table = load(name)
    cells = table.make(bounds)
    for path in map(Path, paths):
        if path.suffix not in _WRITERS:
            raise ConfigError(f"{path}: a table is written as {', '.join(_WRITERS)}, not as {path.suffix or 'that'}")
        text = _WRITERS[path.suffix](name, table.INFO, cells)
        with write_atomically(path) as handle:
            handle.write(text.encode())


def show(name: str, bounds: pd.DataFrame, console: Console | None = None) -> None:
    """Print one table; where it is wider than the terminal, its columns go into several tables below each other."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table, console = load(name), console or Console()
    cells = table.make(bounds)
    console.print(Text(table.INFO.title, style="bold"))
    for part in _parts(cells, console.width):
        grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for column in part:
            grid.add_column(Text(str(column), style="bold"), overflow="fold")
        for row in part.itertuples(index=False):
            grid.add_row(*map(Text, row))
        console.print(grid, end="\n\n")
    console.print(Text(_legend(cells), style="dim"))


def _legend(cells: pd.DataFrame) -> str:
    """What the marks mean, where there are any."""
    marked = cells.map(lambda cell: cell.startswith(("≤", "≥", "~"))).to_numpy().any()
    return EMPTY if cells.empty else LEGEND if marked else ""


def _parts(cells: pd.DataFrame, width: int) -> Iterator[pd.DataFrame]:
    """Groups of columns that fit into `width`, the first column standing before each."""
    widths = [max([len(str(column)), *cells[column].str.len()]) + 2 for column in cells]
    group: list[int] = [0]
    for index in range(1, cells.shape[1]):
        if len(group) > 1 and sum(widths[i] for i in group) + widths[index] > width:
            yield cells.iloc[:, group]
            group = [0]
        group.append(index)
    yield cells.iloc[:, group]


def _csv(name: str, info: TableInfo, cells: pd.DataFrame) -> str:
    return cells.to_csv(index=False, lineterminator="\n")


def _markdown(name: str, info: TableInfo, cells: pd.DataFrame) -> str:
    rows = [list(cells.columns), ["---"] * cells.shape[1], *cells.to_numpy().tolist()]
    lines = ["| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in row) + " |" for row in rows]
    return "\n".join([f"**{info.title}.** {info.caption} {_legend(cells)}".strip(), "", *lines, ""])


def _html(name: str, info: TableInfo, cells: pd.DataFrame) -> str:
    caption = escape(f"{info.caption} {_legend(cells)}".strip())
    head = f'<meta charset="utf-8"><title>{escape(info.title)}</title><style>{_STYLE}</style>'
    table = cells.map(lambda cell: " ".join(cell.split())).to_html(index=False, border=0)
    return f"<!DOCTYPE html>\n{head}\n<p><b>{escape(info.title)}.</b> {caption}</p>\n{table}\n"


_STYLE = "body{font:14px sans-serif} table{border-collapse:collapse} th,td{padding:2px 12px 2px 0;text-align:left}"


_TEX = {"≤": r"$\leq$", "≥": r"$\geq$", r"\textasciitilde ": r"$\sim$", "–": "--", "<": "$<$", ">": "$>$"}


def _tex(name: str, info: TableInfo, cells: pd.DataFrame) -> str:
    legend = _legend(cells).replace("~", r"\textasciitilde ")
    text = cells.to_latex(
        index=False,
        escape=True,
        longtable=len(cells) > _PAGE,
        caption=(f"{info.title}. {info.caption} {legend}".strip(), info.title),
        label=f"tab:{name}",
        column_format="".join("p{5cm}" if cells[c].str.len().max() > _PARAGRAPH else "l" for c in cells),
    )
    for character, command in _TEX.items():
        text = text.replace(character, command)
    return text


_PAGE = 40
"""Rows that fit on a page."""
_PARAGRAPH = 30
"""Characters a cell may have before it is broken into lines."""

_WRITERS = {".csv": _csv, ".html": _html, ".md": _markdown, ".tex": _tex}
