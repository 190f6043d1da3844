"""Methods, one file each: a file knows mathematics, and nothing of files, clocks or clusters.

A method defines `INFO` and one of

    def bound(network, *, option=default, ...) -> Bound       every method whose work is one piece
    def plan(network, *, option=default, ...) -> Plan         methods made of independent semidefinite programs
    def members(network, *, option=default, ...)              methods that are the best of others: `Member`s

Options are keyword-only and annotated: an unknown or ill-typed one is refused by name before anything runs. Some names
are not options but filled in where a method declares them: ``data`` (images (n, *input_shape) of the network's data
set, or None), ``max_seconds``, ``threads`` and ``seed``; for a `plan` only ``calibration`` of this machine, where
``needs_calibration(options)`` of the method says so. Options that cannot go together are refused by a function
``check(options)``, if the method has one, which raises a ConfigError. A layer without a bound: raise `UnsupportedLayer`
naming it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Literal

from certlip.base import options, plugins
from certlip.base.errors import ConfigError, NotCertified
from certlip.base.record import Kind
from certlip.network import Network
from certlip.network.scaling import multiply_back

FILLED_IN = ("data", "max_seconds", "threads", "seed", "calibration")
ENTRY_POINTS = ("plan", "members", "bound")
"""A method's function is the first of these that it has."""


@dataclass(frozen=True)
class MethodInfo:
    """What a method says of itself.

    title: as printed; kind: of its results, unless a `Bound` says otherwise; reference: authors, year, identifier;
    takes: ``network`` (a `certlip.network.Network`) or ``module`` (a float64 torch module in eval mode; `bound` then
    has ``input_shape`` as its second parameter); imports: heavy modules imported before the clock starts; graphs:
    whether it takes networks that are no chains, any other is given `Network.chain`; reads_biases: whether it is about
    more than increments. Any other method that takes a network is given it without biases, its layers divided by powers
    of two (`certlip.network.scaling`), and its bound is multiplied by them afterwards.
    """

    title: str
    kind: Kind
    reference: str
    takes: Literal["network", "module"] = "network"
    imports: tuple[str, ...] = ()
    graphs: bool = False
    reads_biases: bool = False


@dataclass(frozen=True, eq=False)
class Bound:
    """What a method returns.

    value: of the Lipschitz constant of the whole network; certificate: an `UpperCertificate` or `LowerCertificate`,
    which every certified or lower bound must bring; kind: where it depends on the options; details: further fields of
    the `Record` (n_sdps, solver, ...) or anything else JSON can hold, kept under ``details``.
    """

    value: float
    certificate: Any = None
    kind: Kind | None = None
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def given_back(self, network: Network, exponents: tuple[int, ...], rewritten: bool) -> Bound:
        """The bound of `network`, where this is that of `certlip.network.scaling.divide(given, exponents)`.

        given: the network, or where it was rewritten its chain. Raises NotCertified where the bound is no double.
        """
        value, certificate = multiply_back(self.value, exponents), self.certificate
        if math.isinf(value):
            raise NotCertified("the bound is larger than the largest double; divide a layer's weights by a constant")
        if certificate is not None:
            if not hasattr(certificate, "exponents"):
                raise TypeError(f"a method with a {type(certificate).__name__} needs reads_biases=True in its INFO")
            certificate = replace(certificate, network=network, exponents=exponents, rewritten=rewritten)
        return replace(self, value=value, certificate=certificate)


@dataclass(frozen=True)
class Member:
    """A method of a portfolio (`certlip.solving.portfolio`).

    name: in the list of what was tried; method: its module; options: of it, ``budget`` and ``cores`` are filled in;
    share: of the budget that it may take; unless: name of a member that gives no larger value: this one is left out
    once that one came to its end, and waits for it where it is predicted to take no longer than this one may.
    """

    name: str
    method: ModuleType
    options: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    unless: str = ""


def names() -> list[str]:
    """Names of the methods of this package."""
    return plugins.names(__name__)


def load(name: str, module: str | None = None) -> ModuleType:
    """The method's module: a file of this package, or any importable `module`.

    Raises ConfigError for an unknown name, or a module that is missing or is not a method.
    """
    if module is None:
        return plugins.load(__name__, name)
    try:
        found = importlib.import_module(module)
    except Exception as error:  # the user's code may raise anything
        said = f"{type(error).__name__}: {error}"
        raise ConfigError(f"method {name!r}: module {module!r} cannot be imported ({said})") from error
    if not isinstance(getattr(found, "INFO", None), MethodInfo) or not any(hasattr(found, e) for e in ENTRY_POINTS):
        raise ConfigError(f"method {name!r}: module {module!r} must define INFO = MethodInfo(...) and bound or plan")
    return found


def methods() -> dict[str, MethodInfo]:
    """Names of the methods of this package to what they say of themselves."""
    return {name: load(name).INFO for name in names()}


def is_planned(method: ModuleType) -> bool:
    """Whether the method is made of independent semidefinite programs."""
    return hasattr(method, "plan")


def is_portfolio(method: ModuleType) -> bool:
    """Whether the method is the best of others."""
    return hasattr(method, "members")


def needs_calibration(method: ModuleType, checked: Mapping[str, Any]) -> bool:
    """Whether the method plans by what a calibration says of this machine."""
    return hasattr(method, "needs_calibration") and bool(method.needs_calibration(checked))


def entry_point(method: ModuleType) -> Any:
    """The method's `plan`, `members` or `bound`."""
    return next(getattr(method, name) for name in ENTRY_POINTS if hasattr(method, name))


def option_names(method: ModuleType) -> list[str]:
    """Names of the method's options."""
    return options.option_names(entry_point(method), exclude=FILLED_IN)


def options_of(name: str) -> list[options.Option]:
    """The options of a method of this package, for people."""
    return options.described(entry_point(load(name)), exclude=FILLED_IN)


def check_options(name: str, method: ModuleType, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options, typed and complete with defaults.

    Raises ConfigError naming an unknown or ill-typed one, or options that the method's ``check`` refuses together.
    """
    checked = options.check_keywords(f"method {name!r}", entry_point(method), given, exclude=FILLED_IN)
    try:
        getattr(method, "check", lambda _: None)(checked)
    except ConfigError as error:
        raise ConfigError(f"method {name!r}, {error}") from error
    return checked
