"""Sweeps: an entry of a configuration that stands for one entry a value, or a combination of values.

    tradeoff: {method: dcp, sweep: {grid: [[2, 2], [3, 3]], merge: [sum, folded]}}

makes tradeoff-2x2-sum, tradeoff-2x2-folded, tradeoff-3x3-sum and tradeoff-3x3-folded. A swept key is a place in the
entry (``options.channels``), or several, with commas between, that all get the value. The values stand after the
entry's name, or where the name has ``{}``, one a swept key: ``width-c{}``.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

from certlip.base.errors import ConfigError


def expand(entries: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The entries with each that has a ``sweep`` replaced by those it stands for.

    where: begins the sentence of an error. Raises ConfigError for a sweep that makes no entries, or a name twice.
    """
    made: dict[str, Any] = {}
    for name, entry in entries.items():
        swept = isinstance(entry, Mapping) and "sweep" in entry
        for new, filled in _swept(str(name), entry, where).items() if swept else [(name, entry)]:
            if new in made:
                raise ConfigError(f"{where}, {name!r}: its sweep makes {new!r}, which is there already; rename one")
            made[new] = filled
    return made


def _swept(name: str, entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    sweep = entry["sweep"]
    if not isinstance(sweep, Mapping) or not sweep or not all(isinstance(v, list) and v for v in sweep.values()):
        raise ConfigError(f"{where}, {name!r}, sweep: write it as key: [value, ...], not {sweep!r}")
    template = name if "{}" in name else "-".join([name, *["{}"] * len(sweep)])
    if template.count("{}") != len(sweep):
        raise ConfigError(
            f"{where}, {name!r}: the name needs one {{}} for each of {', '.join(map(repr, sweep))}, or none"
        )
    made: dict[str, Any] = {}
    for values in itertools.product(*sweep.values()):
        filled = copy.deepcopy({key: value for key, value in entry.items() if key != "sweep"})
        for places, value in zip(sweep, values, strict=True):
            for place in str(places).split(","):
                _put(filled, place.strip(), value, f"{where}, {name!r}, sweep")
        new = template
        for value in values:
            new = new.replace("{}", _text(value), 1)
        if new in made:
            raise ConfigError(f"{where}, {name!r}, sweep: two of its entries would be called {new!r}")
        made[new] = filled
    return made


def _put(entry: dict[str, Any], place: str, value: Any, where: str) -> None:
    *parents, last = place.split(".")
    for parent in parents:
        entry = entry.setdefault(parent, {})
        if not isinstance(entry, dict):
            raise ConfigError(f"{where}: {place!r} leads through {parent!r}, which has no keys")
    entry[last] = value


def _text(value: Any) -> str:
    """A value as a part of a name."""
    if isinstance(value, list):
        return "x".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
