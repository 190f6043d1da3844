"""Rows to be made again: their files go, and the next run of the workflow makes what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from certlip.base.errors import ConfigError, DataError
from certlip.base.plugins import nearest
from certlip.base.record import Record, Status

LIMITS = (Status.TIME_LIMIT, Status.MEMORY_LIMIT)


def retry(results: str | Path, names: Sequence[str] = (), limit_rows: bool = False) -> list[str]:
    """Remove the files of rows, and say which rows: NETWORK/METHOD.

    names: networks, methods or rows, or patterns of them (``digits-*``); limit_rows: of these, or of all without names,
    only those that hit a limit. Raises ConfigError for a name that no row has, and where nothing is named at all.
    """
    folder = Path(results)
    rows = [path.relative_to(folder / "bounds") for path in sorted(folder.glob("bounds/*/*.json"))]
    known = {word for row in rows for word in _words(row)}
    if not names and not limit_rows:
        raise ConfigError("name the rows to be made again, as NETWORK, METHOD or NETWORK/METHOD, or give --limit-rows")
    for name in names:
        if not any(fnmatchcase(word, name) for word in known):
            raise ConfigError(f"no row of {folder} is one of {name!r}{nearest(name, sorted(known))}")
    chosen = [row for row in rows if not names or any(fnmatchcase(w, name) for w in _words(row) for name in names)]
    chosen = [row for row in chosen if not limit_rows or _hit_a_limit(folder / "bounds" / row)]
    for row in chosen:
        for path in _files(folder, row):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return [str(row.with_suffix("")) for row in chosen]


def _words(row: Path) -> tuple[str, ...]:
    """What a row NETWORK/METHOD.json may be called by."""
    return row.parent.name, row.stem, str(row.with_suffix(""))


def _hit_a_limit(path: Path) -> bool:
    """Whether a limit ended the row, or what it rests on: then its reason says so."""
    try:
        record = Record.load(path)
    except DataError:
        return False
    return record.status in LIMITS or (record.status == Status.OK and "limit" in record.reason)


def _files(folder: Path, row: Path) -> Iterator[Path]:
    """What is made for a row alone; its network too where there was none."""
    try:
        if Record.load(folder / "bounds" / row).status == Status.NO_DATA:
            yield folder / "networks" / f"{row.parent.name}.pt"
    except DataError:
        pass
    for kind in ("plans", "bounds"):
        yield folder / kind / row
    yield folder / "blocks" / row.with_suffix("")
    yield folder / "certificates" / row.with_suffix(".npz")
