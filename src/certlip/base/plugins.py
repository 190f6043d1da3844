"""Folders of plug-ins: each file is one, and is called what it adds; files beginning with ``_`` are not plug-ins."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from certlip.base.errors import ConfigError


def names(package: str) -> list[str]:
    """Sorted names of the plug-ins in a package, none of them imported."""
    found = importlib.import_module(package)
    return sorted(m.name for m in pkgutil.iter_modules(found.__path__) if not m.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import one plug-in; an unknown name is a ConfigError that offers the nearest."""
    known = names(package)
    if name not in known:
        kind = package.rsplit(".", 1)[-1].removesuffix("s")
        raise ConfigError(f"unknown {kind} {name!r}{nearest(name, known)}")
    return importlib.import_module(f"{package}.{name}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The tail of a sentence about an unknown name: the nearest known one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known) or 'none'}"
