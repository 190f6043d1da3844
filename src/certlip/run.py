"""Bounding one network with one method, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from certlip.base import progress
from certlip.base.errors import ConfigError
from certlip.base.limits import Limits
from certlip.base.record import Record
from certlip.methods import Bound, check_options, is_planned, is_portfolio
from certlip.methods import load as load_method
from certlip.network import Array, Network, Shape
from certlip.partition.plan import Plan, Prediction
from certlip.partition.predict import predict
from certlip.proof import norms
from certlip.solving import blocks
from certlip.solving.calibrate import load_or_calibrate
from certlip.solving.evaluate import Subject, record_of
from certlip.solving.outcome import Means
from certlip.solving.portfolio import bound_of
from certlip.sources import Model, checked_shape

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


def bound(
    model: Network | nn.Module | Model,
    input_shape: Shape | None = None,
    method: str = "best",
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

    model: a torch module, a `Network`, or what `certlip.load` gave; input_shape: without batch axis, needed for a torch
    module; method: a name of `certlip.methods()`, by default the best of the certified ones within a budget of 60
    seconds (option ``budget``), or any name with `module`, the import path of a method of your own; data: images
    (n, *input_shape) for methods that use them; n_jobs: semidefinite programs solved side by side; max_seconds,
    max_memory_mb: limits of one method, or of each semidefinite program; cache: folder of solved programs; options: the
    method's own.

    Raises ConfigError for an unknown method or option, DataError for unusable weights. A method that gives no bound
    returns a record whose status and reason say why.
    """
    plugin = load_method(method, module)
    checked = check_options(method, plugin, options)
    limit = Limits(threads, max_seconds, max_memory_mb)
    means = Means(limit, seed, n_jobs, cache)

    def outcome() -> Bound:
        subject = subject_of(model, input_shape, data, plugin.INFO.takes)
        seconds = checked["budget"] if is_portfolio(plugin) else None if is_planned(plugin) else max_seconds
        with progress.stage(method, seconds=seconds):
            return bound_of(subject, plugin, checked, means)

    return record_of(name, method, plugin, checked, threads, outcome)


def layer_constants(model: Network | nn.Module, input_shape: Shape | None = None) -> pd.DataFrame:
    """Certified Lipschitz constants of a network's layers, a row each: layer, kind, input_shape, constant.

    model, input_shape: as in `bound`. The product method joins these constants. Raises UnsupportedLayer by layer name.

        certlip.layer_constants(model, (1, 28, 28)).set_index("layer")["constant"]
    """
    import pandas as pd

    network = subject_of(model, input_shape).network()
    rows = [
        (layer.name, type(layer).__name__, shape, constant)
        for (layer, shape), constant in zip(network.with_shapes, norms.layer_constants(network), strict=True)
    ]
    return pd.DataFrame(rows, columns=["layer", "kind", "input_shape", "constant"])


def plan_network(
    network: Network, method: str, options: Mapping[str, Any], limit: Limits, cache: str | Path | None = None
) -> tuple[Plan, Prediction | None]:
    """A method's plan, and what it is predicted to take on this machine, which is calibrated where that is not cached.

    Raises ConfigError for an unknown method or option, or a method that makes no plans.
    """
    plugin = load_method(method)
    checked = check_options(method, plugin, options)
    if not is_planned(plugin):
        raise ConfigError(f"method {method!r} is one piece of work: there is nothing to plan")
    calibration = load_or_calibrate(checked["solver"], limit, cache)
    plan = blocks.make_plan(lambda: network, plugin, checked, lambda: calibration)
    if plan.prediction or plan.refusal:
        return plan, plan.prediction
    return plan, predict(network.chain, plan, calibration, checked.get("cores", 1))


def subject_of(
    model: Network | nn.Module | Model,
    input_shape: Shape | None,
    data: Array | None = None,
    takes: Literal["network", "module"] = "network",
) -> Subject:
    """A model in memory as a `Subject`, a torch module converted here, since it may not survive the way elsewhere.

    takes: the form that will be asked for, as in `MethodInfo`. Raises ConfigError for what is neither network nor
    module, or a module without `input_shape`; and what `export_network` or `plain_copy` raises.
    """
    if isinstance(model, Model):
        return subject_of(model.module, model.input_shape, data, takes)
    if isinstance(model, Network):
        network = model

        def as_module() -> tuple[nn.Module, Shape]:
            from certlip.pytorch.to_torch import to_torch

            return to_torch(network), network.input_shape

        return Subject(lambda: network, as_module, lambda: data)

    from certlip.pytorch.export import export_network
    from certlip.pytorch.plain import expect_module, plain_copy
    from certlip.pytorch.portable import PortableModule

    expect_module(model)
    shape = _checked(input_shape)
    if takes == "network":
        return subject_of(export_network(model, shape), None, data)
    portable = PortableModule(plain_copy(model, shape), shape)
    return Subject(lambda: export_network(*portable()), portable, lambda: data)


def _checked(input_shape: Shape | None) -> Shape:
    if input_shape is None:
        raise ConfigError("input_shape is needed to bound a torch module: give it without the batch axis")
    return checked_shape(input_shape)
