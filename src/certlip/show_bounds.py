"""Bounds of one network for people and for programs: a table, JSON, a folder of records and certificates, a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from certlip.base.files import write_atomically
from certlip.base.record import Record
from certlip.compare import as_table
from certlip.solving.evaluate import save_result
from certlip.tables import _cells


def _table(records: Sequence[Record]) -> Table:
    """A row a method, the tightest certified one marked; values are rounded to their safe side."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "method", "value", "kind", "seconds", "MB", "status", "reason"):
        table.add_column(column, justify="right" if column in ("value", "seconds", "MB") else "left")
    for record, tightest in zip(records, as_table(records)["tightest"], strict=True):
        value = "" if record.value is None else _cells.marked(record.value, record.kind, digits=6)
        memory = "" if record.peak_mb is None else f"{record.peak_mb:.0f}"
        reason = escape(record.reason)
        cells = [record.method, value, record.kind, f"{record.seconds:.3g}", memory, record.status, reason]
        table.add_row("*" if tightest else "", *cells, style="bold" if tightest else None)
    return table


def show(records: Sequence[Record], several: bool, as_json: bool, csv: Path | None, plot: Path | None) -> None:
    """Print records as JSON, a list of several, or as a table of several or one sentence; write the files asked for.

    csv: of the table of `certlip.compare`; plot: bound against seconds, as .png, .pdf or .svg.
    """
    if as_json:
        found = [record.model_dump(mode="json") for record in records]
        print(json.dumps(found if several or not found else found[0], indent=2))
    elif several:
        Console().print(_table(records))
    else:
        for record in records:
            print(record)
    if csv is not None:
        with write_atomically(csv, "w") as handle:
            handle.write(as_table(records).to_csv(index=False, lineterminator="\n"))
    if plot is not None:
        from certlip import figures
        from certlip.collect import collect

        figures.save("time_vs_bound", collect(records, {}), [plot])


def save(record: Record, folder: Path) -> None:
    """METHOD.json, the record, and METHOD.npz, its certificate or why there is none."""
    save_result(record, folder / f"{record.method}.json", folder / f"{record.method}.npz")
