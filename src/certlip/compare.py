"""Several methods on one network, from Python: a row each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from certlip.base import progress
from certlip.base.errors import ConfigError
from certlip.base.plugins import nearest
from certlip.base.record import Kind, Record
from certlip.methods import is_portfolio, load, names, option_names
from certlip.network import Network, Shape
from certlip.run import bound

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from certlip.sources import Model

Methods = str | Iterable[str] | Mapping[str, Mapping[str, Any]]
"""``all``; names of methods, in one text with commas or one by one; or rows, name to options, as in a configuration."""

COLUMNS = ("method", "value", "kind", "seconds", "peak_mb", "status", "reason", "tightest")
MAX_SECONDS = 60.0
"""Time limit of each of several methods, where none is given."""


def compare(
    model: Network | nn.Module | Model, input_shape: Shape | None = None, methods: Methods = "all", **how: Any
) -> pd.DataFrame:
    """The bounds of one network by several methods, a row each in the order given, with the columns `COLUMNS`.

    model, input_shape: as in `certlip.bound`; methods: ``all`` (every method but those made of others), names, or a
    mapping of row names to options, where the option ``method`` names the method if it is not the row's name; how:
    limits, data and seed as in `certlip.bound` (max_seconds: 60 where it is left out), and options, each for the
    methods that have it. tightest: the smallest certified value. One that gives no bound has a status and a reason.

    Raises ConfigError for an unknown method or option.

        certlip.compare(model, (1, 28, 28), methods=["product", "gram", "lipsdp"])
        certlip.compare(model, (1, 28, 28), {"2x2": {"method": "dcp"}, "4x4": {"method": "dcp", "grid": (4, 4)}})
    """
    return as_table(records(model, input_shape, methods, **how))


def records(
    model: Network | nn.Module | Model, input_shape: Shape | None = None, methods: Methods = "all", **how: Any
) -> Iterator[Record]:
    """The record of each method as soon as it is there, named by its row; arguments as of `compare`."""
    own = {key: how.pop(key) for key in list(how) if key not in _HOW}
    rows = _rows_of(methods, own)
    how = {"max_seconds": MAX_SECONDS, **how}

    def each() -> Iterator[Record]:
        with nullcontext(_nothing) if len(rows) == 1 else progress.stage("methods", len(rows)) as advance:
            for name, (method, options) in rows.items():
                record = bound(model, input_shape, method, **how, **options)
                yield record.model_copy(update={"method": name})
                advance()

    return each()


def _nothing() -> None:
    pass


def _rows_of(methods: Methods, given: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Row name -> method and its options; given: options, each for the methods that have it.

    Raises ConfigError for a name that no method has, or an option that none of these has.
    """
    if methods == "all":
        methods = [name for name in names() if not is_portfolio(load(name))]
    if isinstance(methods, str):
        methods = [name.strip() for name in methods.split(",") if name.strip()]
    entries = dict(methods) if isinstance(methods, Mapping) else {name: {} for name in methods}
    known: set[str] = set()
    rows = {}
    for row, entry in entries.items():
        method = entry.get("method", row)
        taken = set(option_names(load(method)))
        own = {name: value for name, value in entry.items() if name != "method"}
        rows[row] = (method, {**{n: v for n, v in given.items() if n in taken or len(entries) == 1}, **own})
        known |= taken
    for name in given:
        if name not in known and len(rows) > 1:
            raise ConfigError(f"none of {', '.join(rows)} has an option {name!r}{nearest(name, known)}")
    return rows


_HOW = ("name", "data", "seed", "threads", "n_jobs", "max_seconds", "max_memory_mb", "cache")
"""Arguments of `certlip.bound` that are no options of a method."""


def as_table(found: Iterable[Record]) -> pd.DataFrame:
    """Records of one network as the table of `compare`."""
    import pandas as pd

    rows = [{name: getattr(record, name) for name in COLUMNS[:-1]} for record in found]
    table = pd.DataFrame(rows, columns=list(COLUMNS[:-1])).astype({"value": "float64", "peak_mb": "float64"})
    certified = table["value"].where(table["kind"] == Kind.CERTIFIED)
    table["tightest"] = certified.notna() & (certified == certified.min())
    return table
