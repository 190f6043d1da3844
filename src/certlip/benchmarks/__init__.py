"""Benchmarks, one file each: ours and the peers' in one run on the same input, as rows of a table.

A benchmark defines ``run(*, option=default, ...) -> DataFrame``, and imports pandas there: the Snakefile imports every
benchmark. What it measures are wall times of this machine at this moment: compare rows of one run with each other, as
ratios. Where it has an option ``networks``, a configuration names networks of its own there, and `run` is given the
files they are exported to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certlip.base import plugins
from certlip.base.files import write_atomically
from certlip.base.options import check_keywords

if TYPE_CHECKING:
    import pandas as pd


def names() -> list[str]:
    """Names of the benchmarks."""
    return plugins.names(__name__)


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a benchmark, typed and complete with defaults; raises ConfigError naming a wrong one."""
    return check_keywords(f"benchmark {name!r}", plugins.load(__name__, name).run, options)


def run(name: str, options: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a benchmark."""
    frame: pd.DataFrame = plugins.load(__name__, name).run(**options)
    return frame


def save(rows: pd.DataFrame, path: str | Path) -> None:
    """Write the rows as CSV."""
    with write_atomically(path, "w") as handle:
        rows.to_csv(handle, index=False, lineterminator="\n")
