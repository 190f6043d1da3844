"""Architectures by name: one file each, with ``make(**options) -> nn.Module`` and ``input_shape(**options)``.

Weights are Kaiming normal (He et al. 2015, arXiv 1502.01852) or orthogonal, biases zero, a function of the seed alone;
but an architecture with ``known_constant(**options) -> float``, whose Lipschitz constant is known, brings its own.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from certlip.base import plugins
from certlip.base.errors import ConfigError

if TYPE_CHECKING:
    import torch


def names() -> list[str]:
    """Sorted names of the architectures."""
    return plugins.names(__name__)


def make(architecture: str, seed: int, orthogonal: bool = False, /, **options: Any) -> torch.nn.Module:
    """The architecture with random weights drawn from `seed`; the global random state is left as it was.

    orthogonal: weights of `_orthogonal_weights`, so that the Lipschitz constant is at most 1.
    Raises ConfigError for an unknown architecture or option, or options that make no network.
    """
    import torch

    plugin = _load(architecture, options)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            module = plugin.make(**options)
            module.eval()(torch.zeros(1, *plugin.input_shape(**options)))  # else batch normalisation learns from it
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
            raise _no_network(architecture, options, error) from error
        if hasattr(plugin, "known_constant"):
            return module
        generator = torch.Generator().manual_seed(seed)
        if orthogonal:
            from certlip.zoo._orthogonal_weights import orthogonalise

            orthogonalise(module, generator)
            return module
        for layer in module.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                if not layer.weight.numel():
                    raise _no_network(architecture, options, "a layer has no weights")
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                if layer.bias is not None:
                    torch.nn.init.zeros_(layer.bias)
    return module


def input_shape(architecture: str, /, **options: Any) -> tuple[int, ...]:
    """(channels, rows, columns) or (n,) that the architecture takes with these options, without a batch axis."""
    try:
        return _load(architecture, options).input_shape(**options)
    except (TypeError, ValueError) as error:
        raise _no_network(architecture, options, error) from error


def known_constant(architecture: str, /, **options: Any) -> float | None:
    """The Lipschitz constant of an architecture that brings its own weights, never above the true one; else None."""
    plugin = _load(architecture, options)
    return plugin.known_constant(**options) if hasattr(plugin, "known_constant") else None


def from_factory(factory: str, seed: int = 0, /, **options: Any) -> torch.nn.Module:
    """The module that the user's function ``package.module:function`` returns for these options.

    This imports and runs the user's code. Whatever it draws from torch's global generator is a function of `seed`.
    Raises ConfigError if there is no such function, if it fails, or if it returns something else.
    """
    import torch

    from certlip.datasets._torchvision import allow_torchvision

    where, _, attribute = factory.partition(":")
    try:
        allow_torchvision()
        function = getattr(importlib.import_module(where), attribute)
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(
            f"factory {factory!r} cannot be imported ({type(error).__name__}: {error}); write package.module:function "
            "and put the package on PYTHONPATH"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = function(**options)
        except Exception as error:  # the user's code may raise anything
            raise ConfigError(
                f"factory {factory!r} with {_written(options)} failed: {type(error).__name__}: {error}"
            ) from error
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(f"factory {factory!r} returned a {type(module).__name__}, not a torch.nn.Module")
    return module


def _load(architecture: str, options: Mapping[str, Any]) -> ModuleType:
    if architecture not in names():
        raise ConfigError(f"unknown architecture {architecture!r}{plugins.nearest(architecture, names())}")
    plugin = plugins.load(__name__, architecture)
    known = list(inspect.signature(plugin.make).parameters)
    for option in options:
        if option not in known:
            raise ConfigError(f"architecture {architecture!r} has no option {option!r}{plugins.nearest(option, known)}")
    return plugin


def _no_network(architecture: str, options: Mapping[str, Any], reason: object) -> ConfigError:
    first_line = str(reason).strip().split("\n")[0]
    return ConfigError(f"architecture {architecture!r} with {_written(options)} makes no network: {first_line}")


def _written(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in options.items()) or "its default options"
