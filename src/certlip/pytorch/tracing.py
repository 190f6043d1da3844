"""Tracing a torch module symbolically (torch.fx), and what its nodes are called in error messages."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import Any, cast

import torch
from torch import fx, nn

from certlip.base.errors import UnsupportedLayer
from certlip.base.limits import is_out_of_memory
from certlip.pytorch.layers import TENSORS, WHY_NOT, as_module, refused

METADATA = (int, torch.Size, torch.dtype, torch.device)
"""What forward may read off a tensor without depending on its values."""

NAME = "certlip_name"
"""Key of a node's `meta`: what the step is called in the file that it was read from."""


_CALL, _GETATTR = nn.Module.__call__, nn.Module.__getattr__


@contextmanager
def _as_it_runs() -> Iterator[None]:
    """Modules compute numbers while one is traced, which makes them record what they are asked for."""
    traced = nn.Module.__call__, nn.Module.__getattr__
    nn.Module.__call__, nn.Module.__getattr__ = _CALL, _GETATTR  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__, nn.Module.__getattr__ = traced  # type: ignore[method-assign]


class _Sized(fx.Proxy):
    """What a trace follows, with the length of a shape or of parts of a value, and with attributes that have theirs."""

    def __len__(self) -> int:
        length = cast(_Tracer, self.tracer).length(self.node)
        return super().__len__() if length is None else length

    def __getattr__(self, name: str) -> fx.proxy.Attribute:
        return _SizedAttribute(self, name)


class _SizedAttribute(fx.proxy.Attribute, _Sized):
    """An attribute of one."""


class _Tracer(fx.Tracer):
    """example: of the input, None where none is known; with it ``*x.shape[2:]`` has a length."""

    def __init__(self, example: torch.Tensor | None = None) -> None:
        super().__init__()
        self._example = example
        self._values: dict[fx.Node, Any] = {}

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """The entries of a shape, or of the parts of a value: how many these are depends on no number of the input."""
        length = self.length(obj.node)
        return super().iter(obj) if length is None else iter([operator.getitem(obj, k) for k in range(length)])

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Sized(node, self)

    def length(self, node: fx.Node) -> int | None:
        """Of a shape or of parts of a value; None of anything else, or without an example."""
        if self._example is None:
            return None
        with _as_it_runs():
            value = self._value(node)
        return len(value) if isinstance(value, tuple | list) else None

    def _value(self, node: fx.Node) -> Any:
        """Of a node traced so far."""
        if node not in self._values:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._value)
            self._values[node] = self._run(node, args, kwargs)
        return self._values[node]

    def _run(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        match node.op:
            case "placeholder":
                return cast(torch.Tensor, self._example).clone()
            case "get_attr":
                return attrgetter(str(node.target))(self.root)
            case "call_module":
                return self.root.get_submodule(str(node.target))(*args, **kwargs)
            case "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return cast(Callable[..., Any], node.target)(*args, **kwargs)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            name = self.path_of_module(m)
        except NameError:  # a module made inside forward: see through it
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except UnsupportedLayer:
            raise
        except Exception as error:  # control flow on values, which has no symbolic trace, raises anything
            raise refused(name, type(m).__name__) from error


class Traced(fx.GraphModule):
    """A trace that can go to another process: its layers and tensors, and the names of its nodes as they are here."""

    def _deepcopy_init(self) -> Callable[..., None]:
        return partial(fx.GraphModule.__init__, class_name=type(self).__name__)

    def __reduce__(self) -> tuple[Any, ...]:
        targets = {str(n.target) for n in self.graph.nodes if n.op in ("call_module", "get_attr")}
        graph = copy.deepcopy(self.graph)  # this one leads back here
        return Traced, ({t: attrgetter(t)(self) for t in targets}, graph, type(self).__name__)


def trace(module: nn.Module, example: torch.Tensor | None = None) -> fx.GraphModule:
    """The module's graph without dead code; raises UnsupportedLayer naming what has no symbolic trace.

    example: of its input, a batch.
    """
    if isinstance(module, Traced):
        return module
    try:
        module = nn.Sequential(module) if _Tracer().is_leaf_module(module, "") else module
        with torch.no_grad():
            graph = _Tracer(example).trace(module)
    except UnsupportedLayer:
        raise
    except Exception as error:  # as above
        kind = type(module).__name__
        raise refused(kind, f"a forward that torch.fx cannot trace ({first_line(error)})") from error
    traced = Traced(module, graph, type(module).__name__)
    traced.graph.eliminate_dead_code()
    return traced


def run_node(interpreter: fx.Interpreter, node: fx.Node) -> Any:
    """The value of one node; raises UnsupportedLayer naming it where its trace does not run or is no real tensor."""
    try:
        value = interpreter.run_node(node)
    except Exception as error:  # the module itself ran: its trace has frozen something that depends on values
        raise refused(qualified_name(node), f"{operation_of(node)} ({first_line(error)})") from error
    if isinstance(value, torch.Tensor) and (value.is_complex() or type(value) not in TENSORS):
        what = "complex numbers" if value.is_complex() else f"tensors of class {type(value).__name__}"
        raise refused(qualified_name(node), f"{operation_of(node)} of {what}")
    return value


def module_of(node: fx.Node, interpreter: fx.Interpreter, source: fx.Node) -> nn.Module:
    """The layer that a node calls, or the one that does what its function or method does to the value of a source."""
    if node.op == "call_module":
        return interpreter.module.get_submodule(str(node.target))
    operation, module = operation_of(node), None
    function = getattr(torch, operation, None) if node.op == "call_method" else node.target
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n if n is source else interpreter.env[n])
    first = args[0] if args else kwargs.pop("input", None)
    if first is source and source not in (*args[1:], *kwargs.values()):
        try:
            module = as_module(function, args[1:], kwargs)
        except (TypeError, ValueError, AssertionError) as error:  # an option that the module does not have
            raise refused(qualified_name(node), f"{operation} ({first_line(error)})") from error
    if module is None:
        raise refused(qualified_name(node), operation + WHY_NOT.get(operation, ""))
    return module


def qualified_name(node: fx.Node) -> str:
    """Qualified name of the module that a node calls, or of a function below the module whose forward calls it; the
    name in the file for what was read from one."""
    if NAME in node.meta:
        return str(node.meta[NAME])
    caller = _caller(node)
    if node.op == "call_module" or caller is None:
        return str(node.target) if node.op == "call_module" else node.name
    return f"{caller[0]}.{node.name}"


def operation_of(node: fx.Node) -> str:
    """Kind of the module that a node calls, or name of its function or method, with its module if it is not torch's."""
    match node.op, _caller(node):
        case "call_module", (_, kind):
            return kind.__name__
        case "call_method", _:
            return str(node.target).removesuffix("_")  # relu_ is relu in place
    name = getattr(node.target, "__name__", str(node.target))
    home = getattr(node.target, "__module__", None) or "torch"
    is_torchs = home.partition(".")[0] in ("torch", "_operator", "builtins", "math") and not _is_registered(home)
    return name if is_torchs else f"{home}.{name}"


def _is_registered(home: str) -> bool:
    """Whether it is a module of operators that anybody may register with torch, under any name: not its own, aten."""
    return home.startswith("torch._ops.") and home != "torch._ops.aten"


def _caller(node: fx.Node) -> tuple[str, type] | None:
    """Qualified name and type of the innermost module around a node; None at the top."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1] if stack else None


def first_line(error: BaseException) -> str:
    """What fits into a sentence of an error message; for want of memory, which is no fault of the module, raises it."""
    if isinstance(error, Exception) and is_out_of_memory(error):
        raise error
    return str(error).strip().split("\n")[0]
