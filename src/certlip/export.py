"""torch -> `Network`: the last step that knows torch. What it cannot represent it refuses by name.

The module's forward is traced symbolically (torch.fx), so layers called as functions count like modules. The exported
network is then run beside the module in float64, on random inputs, before it is believed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from certlip import operators
from certlip.errors import DataError, ExportError, UnsupportedLayer
from certlip.network import Layer, Network, Shape
from certlip.torch_layers import BATCH_NORMS, RESHAPES, as_module, convert, fold, refused

RTOL = 1e-10
"""Largest difference between the module's and the network's outputs, relative to the largest output."""

_SCALES = (1e-2, 1.0, 1e2)

_METADATA = (int, torch.Size, torch.dtype, torch.device)
"""What forward may read off a tensor without depending on its values."""


def export_network(module: nn.Module, input_shape: Shape) -> Network:
    """The chain of layers that `module` computes in eval mode, its weights as float64; the module is not changed.

    input_shape: (channels, rows, columns) or (n,), without a batch axis.

    Raises UnsupportedLayer naming a layer or operation that no bound covers, DataError naming a layer with NaN or
    infinite weights or if the module does not take such inputs, ExportError if the network is not the module.
    """
    input_shape = tuple(int(n) for n in input_shape)
    double = _double_copy(module)
    _expect_finite(double)
    inputs = torch.zeros(2, *input_shape, dtype=torch.float64)
    with torch.no_grad():
        try:
            double(inputs)
        except Exception as error:  # torch and the user's forward raise anything
            raise DataError(
                f"{type(module).__name__} does not take an input of shape {input_shape}: {_first_line(error)}"
            ) from error
        network = Network(_read_layers(_trace(double), inputs), input_shape)
        _expect_agreement(network, double)
    return network


def _double_copy(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).to("cpu", torch.float64).eval()
    except Exception as error:  # __deepcopy__ and hooks are the user's
        raise ExportError(
            f"{type(module).__name__} cannot be copied to float64 ({_first_line(error)}); remove weight hooks and "
            "initialise lazy layers first"
        ) from error


def _expect_finite(module: nn.Module) -> None:
    for key, value in module.state_dict().items():
        if isinstance(value, torch.Tensor) and not torch.isfinite(value).all():
            layer, _, tensor = key.rpartition(".")
            raise DataError(
                f"{layer or type(module).__name__}: its {tensor} holds NaN or infinite values; train or fetch the "
                "weights again"
            )


class _Tracer(fx.Tracer):
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


def _trace(module: nn.Module) -> fx.GraphModule:
    try:
        graph = _Tracer().trace(module)
    except UnsupportedLayer:
        raise
    except Exception as error:  # as above
        kind = type(module).__name__
        raise refused(kind, f"a forward that torch.fx cannot trace ({_first_line(error)})") from error
    traced = fx.GraphModule(module, graph)
    traced.graph.eliminate_dead_code()
    return traced


def _read_layers(traced: fx.GraphModule, inputs: torch.Tensor) -> tuple[Layer, ...]:
    """Run the graph node by node, and write down the layer of each node whose value depends on the input.

    Every such node having exactly one such source, and the output being one of them, the graph is a chain.
    """
    interpreter = fx.Interpreter(traced)
    interpreter.args_iter = iter([inputs])
    layers: list[Layer] = []
    shapes: dict[fx.Node, Shape] = {}  # of one example, for the nodes whose value depends on the input
    for node in traced.graph.nodes:
        sources = [n for n in node.all_input_nodes if n in shapes]
        if node.op == "output":
            if not sources or node.args != (sources[0],):
                raise refused("output", "anything but one tensor that depends on the input")
            break
        value = interpreter.env[node] = _run(interpreter, node)
        if node.op == "placeholder" and not shapes:
            shapes[node] = tuple(value.shape[1:])
        elif sources and not isinstance(value, _METADATA):
            if len(sources) > 1 or not isinstance(value, torch.Tensor):
                raise refused(_name(node), _operation(node))
            shapes[node] = tuple(value.shape[1:])
            module = _module_of(node, interpreter)
            new = convert(_name(node), module, shapes[sources[0]], shapes[node])
            folded = fold(layers[-1], new[0]) if layers and isinstance(module, BATCH_NORMS) else None
            if folded is None:
                layers += new
            else:
                layers[-1] = folded
    return tuple(layers)


def _run(interpreter: fx.Interpreter, node: fx.Node) -> Any:
    try:
        return interpreter.run_node(node)
    except Exception as error:  # the module itself ran: its trace has frozen something that depends on values
        raise refused(_name(node), f"{_operation(node)} ({_first_line(error)})") from error


def _module_of(node: fx.Node, interpreter: fx.Interpreter) -> nn.Module:
    """The layer that a node calls, or the one that does what its function or method does."""
    traced = interpreter.module
    operation = _operation(node)
    if node.op == "call_module":
        return traced.get_submodule(str(node.target))
    if operation in RESHAPES:
        return nn.Flatten()
    function = getattr(torch, operation, None) if node.op == "call_method" else node.target
    args, kwargs = fx.node.map_arg((node.args[1:], node.kwargs), lambda n: interpreter.env[n])
    module = as_module(function, args, {k: v for k, v in kwargs.items() if k != "input"})
    if module is None:
        raise refused(_name(node), operation)
    return module


def _name(node: fx.Node) -> str:
    """Qualified name of the module that a node calls, or of a function below the module whose forward calls it."""
    caller = _caller(node)
    if node.op == "call_module" or caller is None:
        return str(node.target) if node.op == "call_module" else node.name
    return f"{caller[0]}.{node.name}"


def _operation(node: fx.Node) -> str:
    match node.op, _caller(node):
        case "call_module", (_, kind):
            return kind.__name__
        case "call_method", _:
            return str(node.target).removesuffix("_")  # relu_ is relu in place
    return getattr(node.target, "__name__", str(node.target))


def _caller(node: fx.Node) -> tuple[str, type] | None:
    """Qualified name and type of the innermost module around a node; None at the top."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1] if stack else None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _expect_agreement(network: Network, module: nn.Module) -> None:
    """Raise ExportError unless both give the same outputs on seeded normal inputs of several scales."""
    rng = np.random.default_rng(0)
    for scale in _SCALES:
        inputs = scale * rng.standard_normal((2, *network.input_shape))
        expected = module(torch.tensor(inputs)).numpy()  # a copy, which the module may change in place
        with np.errstate(over="ignore"):  # a saturated sigmoid
            outputs = operators.forward(network, inputs)
        difference = np.abs(outputs - expected).max() if outputs.shape == expected.shape else np.inf
        if not difference <= RTOL * np.abs(expected).max():
            raise ExportError(
                f"{type(module).__name__}: the exported network differs from the module by {difference:.1e} at inputs "
                f"of scale {scale:g}; look for hooks and for layers that change their input in place"
            )
