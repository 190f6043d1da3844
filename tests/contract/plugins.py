"""Every method there is, in every variant of its choices: what the contract tests run over."""

from __future__ import annotations

import inspect
import itertools
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import certlip
from certlip.base.errors import ConfigError
from certlip.base.record import Record
from certlip.methods import FILLED_IN, check_options, entry_point, load, names
from certlip.network import Network
from certlip.partition.merges import RULES, Merge

sys.path.insert(0, str(Path(__file__).parent))


class Variant(NamedTuple):
    """A method with one choice for each of its options that has choices."""

    name: str
    module: str | None
    options: dict[str, Any]

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    def bound(self, network: Network, **more: Any) -> Record:
        return certlip.bound(network, method=self.name, module=self.module, **self.options, **more)

    @property
    def plugin(self) -> Any:
        return load(self.name, self.module)

    @property
    def few(self) -> dict[str, int]:
        """Small values of the options that count something, for what does not depend on how much is tried."""
        function = inspect.signature(entry_point(self.plugin))
        counts = {p.name: p.default for p in function.parameters.values() if p.name.startswith("n_")}
        return {name: min(default, FEW) for name, default in counts.items() if isinstance(default, int)}


FEW = 2
"""Of points, starts, steps, ..."""


def option_types(plugin: Any) -> dict[str, Any]:
    """Names and types of the method's options."""
    function = entry_point(plugin)
    return {
        p.name: eval(p.annotation, function.__globals__) if isinstance(p.annotation, str) else p.annotation
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in FILLED_IN
    }


def choices_of(annotation: Any) -> tuple[Any, ...]:
    """Of an option that has some: a Literal, a bool, the name of a merge rule."""
    if annotation == Merge:
        return tuple(RULES)
    return get_args(annotation) if get_origin(annotation) is Literal else (False, True) if annotation is bool else ()


def variants(name: str, module: str | None = None) -> list[Variant]:
    """All combinations of the method's choices."""
    types = option_types(load(name, module)).items()
    choices = {key: found for key, annotation in types if (found := choices_of(annotation))}
    found = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    return [Variant(name, module, options) for options in found if _go_together(name, module, options)]


def _go_together(name: str, module: str | None, options: dict[str, Any]) -> bool:
    try:
        check_options(name, load(name, module), options)
    except ConfigError:
        return False
    return True


METHODS = [
    *(variant for name in names() for variant in variants(name)),
    *variants("template", "certlip.methods._template"),
    *variants("entrywise", "elsewhere.entrywise"),
]
