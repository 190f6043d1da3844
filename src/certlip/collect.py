"""The comparison as one tidy table: a row a (network, method), the input of every table, figure and check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.base.errors import DamagedFile, DataError
from certlip.base.files import write_atomically
from certlip.base.record import Kind, Record

if TYPE_CHECKING:
    import pandas as pd

_DTYPES: dict[Any, str] = {float: "float64", float | None: "float64", int: "Int64", int | None: "Int64"}
_FIELDS = {name: field.annotation for name, field in Record.model_fields.items() if not field.exclude}
COLUMNS: dict[str, str] = {
    **{name: _DTYPES.get(annotation, "str") for name, annotation in _FIELDS.items()},
    "experiment": "str",
    "x": "float64",
    "test_accuracy": "float64",
    "known_constant": "float64",
    "reported": "float64",
    "reported_seconds": "float64",
    "reported_by": "str",
    "published": "str",
    "best_lower": "float64",
    "ratio": "float64",
    "below_lower": "bool",
}
"""Column -> dtype; the fields of `Record` (dictionaries as JSON text), then what only the comparison knows."""


def collect(records: Iterable[Record], networks: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a record, in the order given, with the columns of `COLUMNS`.

    networks: name -> experiment (the sweep it belongs to), x (its abscissa there), test_accuracy in [0, 1],
    known_constant (the Lipschitz constant, or just below it), reported (`certlip.config.Reported`); each may be left
    out. reported: of the row's method; published: all that is reported of its network; best_lower: largest lower value
    of the row's network; ratio: value / best_lower, missing where best_lower is missing or zero; below_lower: an
    estimate under best_lower, hence below the Lipschitz constant.
    """
    import pandas as pd

    rows = [_row(record, networks.get(record.network, {})) for record in records]
    bounds = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    lower = bounds["value"].where(bounds["kind"] == Kind.LOWER)
    best = lower.groupby(bounds["network"]).max()
    bounds["best_lower"] = bounds["network"].map(best).astype("float64")
    bounds["ratio"] = bounds["value"] / bounds["best_lower"].where(bounds["best_lower"] > 0)
    bounds["below_lower"] = (bounds["kind"] == Kind.ESTIMATE) & (bounds["value"] < bounds["best_lower"])
    return bounds


def _row(record: Record, network: Mapping[str, Any]) -> dict[str, Any]:
    row = record.model_dump(mode="json")
    for name, dtype in COLUMNS.items():
        if isinstance(row.get(name), dict):
            row[name] = json.dumps(row[name], sort_keys=True)
        elif dtype == "str" and row.get(name) is None:
            row[name] = ""
    reported = network.get("reported") or {"source": "", "note": "", "bounds": {}, "seconds": {}}
    return {
        **row,
        "experiment": network.get("experiment") or "",
        "x": network.get("x", np.nan),
        "test_accuracy": network.get("test_accuracy", np.nan),
        "known_constant": network.get("known_constant", np.nan),
        "reported": reported["bounds"].get(record.method, np.nan),
        "reported_seconds": reported["seconds"].get(record.method, np.nan),
        "reported_by": _source(reported) if record.method in reported["bounds"] else "",
        "published": json.dumps(reported, sort_keys=True) if network.get("reported") else "",
        "below_lower": False,
    }


def _source(reported: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, (reported["source"], reported["note"])))


def check(bounds: pd.DataFrame) -> list[str]:
    """Soundness complaints, one sentence each: a certified value below the best lower value of its network, or below
    the constant of the network where it is known.

    Nothing is tolerated: certified values are rounded up, lower values and known constants down.
    """
    certified = bounds[bounds["kind"] == Kind.CERTIFIED]
    below_known = certified[certified["value"] < certified["known_constant"]]
    complaints = [
        f"{row.network}: {row.method} certifies {row.value!r}, below the known constant {row.known_constant!r}"
        for row in below_known.itertuples(index=False)
    ]
    unsound = certified[certified["value"] < certified["best_lower"]]
    for network, method, value, best in unsound[["network", "method", "value", "best_lower"]].itertuples(index=False):
        attained = bounds[(bounds["network"] == network) & (bounds["kind"] == Kind.LOWER) & (bounds["value"] == best)]
        complaints.append(
            f"{network}: {method} certifies {value!r}, below the {best!r} attained by {attained['method'].iloc[0]}"
        )
    return complaints


def save(bounds: pd.DataFrame, path: str | Path) -> None:
    """Write the table as CSV; every float survives the round trip."""
    with write_atomically(path) as handle:
        handle.write(bounds.to_csv(index=False, lineterminator="\n").encode())


def read(path: str | Path) -> pd.DataFrame:
    """Read a table of `save`; raises DataError if the file is missing or not one."""
    import pandas as pd

    # "nan" and "null" are fair names of networks: only an empty number is a missing one
    numbers = [name for name, dtype in COLUMNS.items() if dtype not in ("str", "bool")]
    try:
        bounds = pd.read_csv(
            path,
            dtype=COLUMNS,
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        )
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; run the workflow or certlip.collect first") from error
    except (ValueError, TypeError) as error:
        raise DamagedFile(f"{path} is not a table of bounds", path) from error
    if list(bounds.columns) != list(COLUMNS):
        raise DamagedFile(f"{path} has the columns of another version", path)
    return bounds


def rows_file(source: str) -> str:
    """File, in the folder of results, of the rows of one of `COMPARED` or of a benchmark."""
    return f"{source}.csv" if source in COMPARED else f"benchmarks/{source}.csv"


COMPARED = ("bounds", "predictions", "certified_accuracy", "claims_of_others")
"""Rows that a run of the comparison makes; all others are of benchmarks."""


def read_rows(path: str | Path) -> pd.DataFrame:
    """The rows of the comparison, typed (`read`), or others as they are; raises DataError if there are none."""
    import pandas as pd

    if Path(path).name == "bounds.csv":
        return read(path)
    try:
        return pd.read_csv(path)
    except (FileNotFoundError, ValueError) as error:
        raise DataError(f"{path} does not exist or holds no rows; run the workflow first") from error
