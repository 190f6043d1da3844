"""Running one method on one network: options checked, limits kept, the outcome written as a `Record`."""

from __future__ import annotations

import copy
import importlib
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from certlip import blocks, limits
from certlip.blocks import Limits
from certlip.errors import ConfigError, NoBound
from certlip.methods import Bound, check_options, is_planned
from certlip.methods import load as load_method
from certlip.network import Array, Network, Shape
from certlip.provenance import provenance
from certlip.record import Kind, Record, Status

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Subject:
    """The network to bound, loaded only in the form that a method takes.

    network, module: functions that return it as a `Network` or as a torch module; the first may raise UnsupportedLayer.
    """

    name: str
    input_shape: Shape
    network: Callable[[], Network]
    module: Callable[[], nn.Module]

    @classmethod
    def of(cls, model: Network | nn.Module, input_shape: Shape | None, name: str) -> Subject:
        """A model in memory; `input_shape` is needed for a torch module."""
        if isinstance(model, Network):

            def as_module() -> nn.Module:
                from certlip.torch_network import to_torch

                return to_torch(model)

            return cls(name, model.input_shape, lambda: model, as_module)
        if input_shape is None:
            raise ConfigError("input_shape is needed to bound a torch module: give it without the batch axis")
        shape = tuple(input_shape)

        def as_network() -> Network:
            from certlip.export import export_network

            return export_network(model, shape)

        return cls(name, shape, as_network, lambda: copy.deepcopy(model).double().eval())


def bound(
    model: Network | nn.Module,
    input_shape: Shape | None = None,
    method: str = "dcp",
    *,
    name: str = "network",
    module: str | None = None,
    data: Array | None = None,
    seed: int = 0,
    threads: int = 1,
    n_jobs: int = 1,
    max_seconds: float | None = None,
    max_memory_mb: float | None = None,
    cache: str | Path | None = None,
    **options: Any,
) -> Record:
    """Bound the l2 Lipschitz constant of a network with one method.

    model: a torch module or a `Network`; input_shape: without batch axis, needed for a torch module; method: a name of
    `certlip.methods()`, or any name with `module`, the import path of a method of your own; data: images
    (n, *input_shape) for methods that use them; n_jobs: semidefinite programs solved side by side; max_seconds,
    max_memory_mb: limits of one method, or of each semidefinite program; cache: folder of solved programs; options: the
    method's own.

    Raises ConfigError for an unknown method or option, DataError for unusable weights. A method that gives no bound
    returns a record whose status and reason say why.
    """
    plugin = load_method(method, module)
    checked = check_options(method, plugin, options)
    subject = Subject.of(model, input_shape, name)
    limit = Limits(threads, max_seconds, max_memory_mb)
    return run(subject, method, plugin, checked, limit, data=data, seed=seed, n_jobs=n_jobs, cache=cache)


def run(
    subject: Subject,
    method: str,
    plugin: ModuleType,
    options: Mapping[str, Any],
    limit: Limits,
    *,
    data: Array | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    cache: str | Path | None = None,
) -> Record:
    """Run a method with checked options; see `bound`."""

    def outcome() -> Bound:
        if is_planned(plugin):
            begin = time.perf_counter()
            network = subject.network()
            plan = plugin.plan(network, **options)
            planning = time.perf_counter() - begin
            solved = blocks.solve_blocks(network, plan, limit=limit, n_jobs=n_jobs, cache=cache)
            return blocks.merge_plan(network, plan, solved, planning)
        fill = {"data": data, "max_seconds": limit.max_seconds, "threads": limit.threads, "seed": seed}
        measured = limits.call(
            _evaluate,
            subject,
            plugin.__name__,
            {**fill, **options},
            threads=limit.threads,
            max_seconds=limit.max_seconds,
            max_memory_mb=limit.max_memory_mb,
        )
        result, seconds = measured.value
        costs = {"seconds": seconds, "peak_mb": measured.peak_mb}
        return Bound(result.value, result.certificate, result.kind, result.reason, {**result.details, **costs})

    return record_of(subject.name, method, plugin, options, limit.threads, outcome)


def record_of(
    network: str,
    method: str,
    plugin: ModuleType,
    options: Mapping[str, Any],
    threads: int,
    outcome: Callable[[], Bound],
) -> Record:
    """The record of a method's outcome: its bound, or the status and reason of the `NoBound` it raised."""
    common = {
        "network": network,
        "method": method,
        "options": dict(options),
        "threads": threads,
        **provenance(),
    }
    begin = time.perf_counter()
    try:
        result = outcome()
    except NoBound as error:
        seconds = time.perf_counter() - begin
        return Record(kind=plugin.INFO.kind, status=Status(error.status), reason=str(error), seconds=seconds, **common)
    kind = result.kind or plugin.INFO.kind
    if kind is not Kind.ESTIMATE and result.certificate is None:
        raise TypeError(f"method {method!r} calls its result {kind} but brings no certificate")
    known = {key: value for key, value in result.details.items() if key in Record.model_fields}
    others = {key: value for key, value in result.details.items() if key not in known}
    sha256 = None if result.certificate is None else result.certificate.network.sha256
    return Record(
        kind=kind,
        value=result.value,
        reason=result.reason,
        certificate=result.certificate,
        details=others,
        weights_sha256=sha256,
        **{**common, **known},
    )


def _evaluate(subject: Subject, plugin_name: str, options: Mapping[str, Any]) -> tuple[Bound, float]:
    """The method's bound and its seconds, imports and loading excluded."""
    plugin = importlib.import_module(plugin_name)
    for heavy in plugin.INFO.imports:
        importlib.import_module(heavy)
    accepted = inspect.signature(plugin.bound).parameters
    keywords = {key: value for key, value in options.items() if key in accepted}
    takes_module = plugin.INFO.takes == "module"
    arguments = (subject.module(), subject.input_shape) if takes_module else (subject.network(),)
    begin = time.perf_counter()
    result = plugin.bound(*arguments, **keywords)
    return result, time.perf_counter() - begin
