"""Reproducible benchmarks of certified l2 Lipschitz bounds for convolutional neural networks.

    record = certlip.bound(model, input_shape=(1, 28, 28))
    record.value, record.kind, certlip.verify(record.certificate).ok
    certlip.bound(certlip.load("net.onnx"), method="lipsdp")

Each name is imported on first use. The functions `certify`, `compare`, `methods` and `verify` hide the modules of the
same name: import from those with ``from certlip.methods import MethodInfo``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certlip import sdp
    from certlip.base.record import Record
    from certlip.certify import certify
    from certlip.certify.margins import margins
    from certlip.compare import compare
    from certlip.methods import methods
    from certlip.network import Network
    from certlip.run import bound, layer_constants
    from certlip.sources import load
    from certlip.verify import verify

__version__ = "0.1.0"
__all__ = [
    "Network",
    "Record",
    "bound",
    "certify",
    "compare",
    "layer_constants",
    "load",
    "margins",
    "methods",
    "sdp",
    "verify",
]

_HOMES = {
    "Network": "network",
    "Record": "base.record",
    "bound": "run",
    "certify": "certify",
    "compare": "compare",
    "layer_constants": "run",
    "load": "sources",
    "margins": "certify.margins",
    "methods": "methods",
    "verify": "verify",
}
"""Public name -> the module that it is taken from."""


class _Package(ModuleType):
    """The package itself, which imports a public name when it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name == "sdp":
            return importlib.import_module("certlip.sdp")
        if name not in _HOMES:
            raise AttributeError(f"module 'certlip' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"certlip.{_HOMES[name]}"), name)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            return  # what the import of a module of this name does; the function stays
        super().__setattr__(name, value)

    def __dir__(self) -> Iterable[str]:
        return {*super().__dir__(), *__all__}


sys.modules[__name__].__class__ = _Package
