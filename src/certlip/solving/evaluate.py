"""Running one method of one piece: options filled in, limits kept, the outcome written as a `Record`."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from certlip.base import limits, progress
from certlip.base.deadline import Deadline
from certlip.base.errors import Interrupted, LimitExceeded, NoBound
from certlip.base.files import write_npz
from certlip.base.limits import Limits
from certlip.base.provenance import provenance
from certlip.base.record import Kind, Record
from certlip.methods import Bound
from certlip.methods.product import best_product
from certlip.network import Array, Network, Shape
from certlip.network.scaling import scale_network

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Subject:
    """What is bounded, loaded only in the form that a method takes, in the process where the method runs.

    network, module: functions that return it as a `Network`, or as a float64 torch module with the shape of its input;
    the first may raise UnsupportedLayer; data: images (n, *input_shape) for methods that use them, None for none.
    """

    network: Callable[[], Network]
    module: Callable[[], tuple[nn.Module, Shape]]
    data: Callable[[], Array | None] = lambda: None


def evaluate(subject: Subject, plugin: ModuleType, options: Mapping[str, Any], limit: Limits, seed: int) -> Bound:
    """The method's bound under the limits; its cost is added to the details. Raises what the method raises.

    Where a limit ends a method that certifies, or is predicted to, the bound is what it had certified by then, or the
    product of layer constants, and its reason says so.
    """
    filled = {"threads": limit.threads, "seed": seed, **options}
    arguments = subject, plugin.__name__, filled, limit.max_seconds
    try:
        with progress.listening(partial(_value, plugin, subject)):
            measured = limits.call(_evaluate, *arguments, limit=limit, finish=_finish)
    except LimitExceeded as ended:
        if not isinstance(ended.reported, Bound):
            raise
        _, given_back = _given(plugin, subject)
        return _cut_short(given_back(ended.reported), str(ended), {"seconds": ended.seconds})
    result, seconds = measured.value
    return replace(result, details={**result.details, "seconds": seconds, "peak_mb": measured.peak_mb})


def _value(plugin: ModuleType, subject: Subject, reported: Any) -> float | None:
    """The certified value of what a method of networks reported, None for anything else."""
    if plugin.INFO.kind is not Kind.CERTIFIED or not isinstance(reported, Bound):
        return None
    with suppress(NoBound):
        return _given(plugin, subject)[1](reported).value
    return None


def record_of(
    network: str,
    method: str,
    plugin: ModuleType,
    options: Mapping[str, Any],
    threads: int,
    outcome: Callable[[], Bound],
) -> Record:
    """The record of a method's outcome: its bound, or the status and reason of the `NoBound` it raised.

    Interrupted is raised again with the record of what it holds.
    """
    common = {
        "network": network,
        "method": method,
        "options": dict(options),
        "threads": threads,
        **provenance(__name__, plugin.__name__),
    }
    begin = time.perf_counter()
    try:
        result = outcome()
    except NoBound as error:
        refused = vars(error.refusal)
        return Record(kind=plugin.INFO.kind, **refused, seconds=time.perf_counter() - begin, **common)
    except Interrupted as interrupted:
        raise Interrupted(_record(plugin, interrupted.kept, common)) from None
    return _record(plugin, result, common)


def _record(plugin: ModuleType, result: Bound, common: Mapping[str, Any]) -> Record:
    """The record of a bound; common: what every record of the row says."""
    kind = result.kind or plugin.INFO.kind
    if kind is not Kind.ESTIMATE and result.certificate is None:
        raise TypeError(f"method {common['method']!r} calls its result {kind} but brings no certificate")
    known = {key: value for key, value in result.details.items() if key in Record.model_fields}
    if taken := sorted(known.keys() - _COSTS):
        raise TypeError(f"method {common['method']!r}: {', '.join(taken)} of a record cannot be set by details")
    return Record(
        kind=kind,
        value=result.value,
        reason=result.reason,
        certificate=result.certificate,
        details={key: value for key, value in result.details.items() if key not in known},
        weights_sha256=None if result.certificate is None else result.certificate.network.sha256,
        **{**common, **known},
    )


_COSTS = {
    *("margin", "gap", "seconds", "calibration_seconds", "peak_mb", "device", "iterations"),
    *("n_sdps", "n_distinct_sdps", "max_order", "solver", "solver_version"),
}
"""Fields of a `Record` that a method may fill in by its details."""


def save_none(path: str | Path, reason: str) -> None:
    """Write a file that says why there is no certificate; `certlip.proof.certificate.load` raises the reason."""
    write_npz(path, {"certificate": "none", "reason": reason}, {})


def save_result(record: Record, bound: str | Path, certificate: str | Path) -> None:
    """Write the certificate, or why there is none, and then the record that names it."""
    if record.certificate is None:
        save_none(certificate, record.reason or f"{record.method} gives an {record.kind}")
    else:
        record.certificate.save(certificate)
        record = record.model_copy(update={"certificate_file": str(certificate)})
    record.save(bound)


PREPARING = 0.02
"""Share of the time limit that may go to a product of layer constants, in case that a method is cut short."""


def _evaluate(
    subject: Subject, plugin_name: str, options: Mapping[str, Any], max_seconds: float | None
) -> tuple[Bound, float]:
    """The method's bound and its seconds, imports and loading excluded."""
    deadline = Deadline.after(max_seconds)
    plugin = importlib.import_module(plugin_name)
    network, given_back = _given(plugin, subject)
    certified = network if plugin.INFO.kind is Kind.CERTIFIED else None
    if certified is not None:
        with suppress(NoBound):  # the method says so itself
            best_product(certified, deadline=Deadline.after(PREPARING * (max_seconds or 0.0)))  # is reported
    for heavy in plugin.INFO.imports:
        importlib.import_module(heavy)
    accepted = inspect.signature(plugin.bound).parameters
    keywords = {key: value for key, value in options.items() if key in accepted}
    if "data" in accepted:
        keywords["data"] = subject.data()
    if "max_seconds" in accepted:
        keywords["max_seconds"] = deadline.max_seconds
    arguments = subject.module() if network is None else (network,)
    begin = time.perf_counter()
    try:
        result = plugin.bound(*arguments, **keywords)
    except LimitExceeded as refusal:
        if certified is None:
            raise
        result = _cut_short(best_product(certified), str(refusal))
    return given_back(result), time.perf_counter() - begin


def _given(plugin: ModuleType, subject: Subject) -> tuple[Network | None, Callable[[Bound], Bound]]:
    """What a method of networks is given, and what makes its bound one of the subject.

    A method of chains is given the network's chain; one that is about increments alone is given those, each layer
    divided by a power of two.
    """
    if plugin.INFO.takes != "network":
        return None, _unchanged
    network = subject.network()
    given = network if plugin.INFO.graphs else network.chain
    if plugin.INFO.reads_biases:
        return given, lambda bound: _about(network, bound)
    scaled = scale_network(given)
    return scaled.network, lambda bound: bound.given_back(network, scaled.exponents, given is not network)


def _unchanged(bound: Bound) -> Bound:
    return bound


def _about(network: Network, bound: Bound) -> Bound:
    """The bound with a certificate that carries the network itself."""
    certificate = bound.certificate
    return bound if certificate is None else replace(bound, certificate=replace(certificate, network=network))


def _finish(subject: Subject, *rest: Any) -> tuple[Bound, float]:
    """What `_evaluate`, called with the same arguments, had reported, or a product of layer constants that is better.

    rest: its other arguments, what it reported and why it was ended. Where there is neither it is tried once more.
    """
    plugin_name, options, max_seconds, reported, why = rest
    begin = time.perf_counter()
    plugin = importlib.import_module(plugin_name)
    found = [] if reported is None else [reported]
    network, given_back = _given(plugin, subject)
    if network is not None and plugin.INFO.kind is Kind.CERTIFIED:
        found.append(best_product(network))
    if not found:
        return _evaluate(subject, plugin_name, options, max_seconds)
    return _cut_short(given_back(min(found, key=lambda bound: bound.value)), why), time.perf_counter() - begin


def _cut_short(bound: Bound, why: str, details: Mapping[str, Any] | None = None) -> Bound:
    segments = getattr(bound.certificate, "segments", ())
    is_product = all(segment.rule == "constants" for segment in segments)
    what = "the product of layer constants" if is_product else "what was certified by then"
    reason = f"{why}: {bound.reason or f'this is {what}'}"
    return replace(bound, reason=reason, details={**bound.details, **(details or {})})
