"""Figures of the comparison, one file each, at the width of one column of a paper.

A figure defines ``INFO = FigureInfo(...)`` and ``draw(bounds) -> matplotlib.figure.Figure`` from what `certlip.collect`
returns. It takes colours and markers from `style`, so that a method looks the same everywhere, and matplotlib is
imported only by what draws.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from certlip.base import plugins
from certlip.base.errors import ConfigError
from certlip.base.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_METADATA: dict[str, dict[str, str | None]] = {
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".png": {},
}


@dataclass(frozen=True)
class FigureInfo:
    """What a figure says of itself.

    title: a few words; caption: sentences in plain text; source: ``bounds``, the comparison, ``predictions``
    (`certlip.predictions`), ``certified_accuracy`` (`certlip.certify.accuracies`), ``schedule``
    (`certlip.schedule`), or a benchmark's name.
    """

    title: str
    caption: str
    source: str = "bounds"


def names() -> list[str]:
    """Names of the figures."""
    return [name for name in plugins.names(__name__) if name != "style"]


def load(name: str) -> ModuleType:
    """The figure's module; an unknown name is a ConfigError that offers the nearest."""
    if name not in names():
        raise ConfigError(f"unknown figure {name!r}{plugins.nearest(name, names())}")
    return plugins.load(__name__, name)


def draw(name: str, bounds: pd.DataFrame) -> Figure:
    """One figure in the style of all."""
    from certlip.figures import style

    with style.applied():
        return load(name).draw(bounds)


def save(name: str, bounds: pd.DataFrame, paths: Iterable[str | Path]) -> None:
    """Draw one figure and write it to each path, as of `write`. The same rows give the same bytes."""
    from certlip.figures import style

    with style.applied():
        figure = load(name).draw(bounds)
        for path in paths:
            write(figure, path)


def write(figure: Figure, path: str | Path) -> None:
    """Write a figure as the suffix says: .pdf, .svg or .png (300 dpi); raises ConfigError for another suffix."""
    suffix = expect_suffix(path)
    with write_atomically(path) as handle:
        figure.savefig(handle, format=suffix[1:], metadata=_METADATA[suffix])


def expect_suffix(path: str | Path) -> str:
    """Of a file that `write` writes; raises ConfigError for others."""
    suffix = Path(path).suffix
    if suffix not in _METADATA:
        raise ConfigError(f"{path}: a figure is written as {', '.join(_METADATA)}, not as {suffix or 'that'}")
    return suffix
