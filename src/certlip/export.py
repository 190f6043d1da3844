"""torch -> `Network`: the last step that knows torch. What it cannot represent it refuses by name.

The module's forward is traced symbolically (torch.fx), so layers called as functions count like modules. The exported
network is then run beside the module in float64, on random inputs, before it is believed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import fx, nn

from certlip import operators
from certlip.errors import DataError, ExportError
from certlip.network import Array, Layer, Network, Shape
from certlip.torch_layers import BATCH_NORMS, convert, fold, fold_padding, refused
from certlip.tracing import METADATA, first_line, module_of, operation_of, qualified_name, run_node, trace

RTOL = 1e-10
"""Largest difference between the module's and the network's outputs, relative to the largest output."""

_SCALES = (1e-2, 1.0, 1e2)


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
                f"{type(module).__name__} does not take an input of shape {input_shape}: {first_line(error)}"
            ) from error
        network = Network(_read_layers(trace(double), inputs), input_shape)
        expect_agreement(network.input_shape, partial(operators.forward, network), double)
    return network


def _double_copy(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).to("cpu", torch.float64).eval()
    except Exception as error:  # __deepcopy__ and hooks are the user's
        raise ExportError(
            f"{type(module).__name__} cannot be copied to float64 ({first_line(error)}); remove weight hooks and "
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
        value = interpreter.env[node] = run_node(interpreter, node)
        if node.op == "placeholder" and not shapes:
            shapes[node] = tuple(value.shape[1:])
        elif sources and not isinstance(value, METADATA):
            if len(sources) > 1 or not isinstance(value, torch.Tensor):
                raise refused(qualified_name(node), operation_of(node))
            shapes[node] = tuple(value.shape[1:])
            module = module_of(node, interpreter)
            new = convert(qualified_name(node), module, shapes[sources[0]], shapes[node])
            folding = fold if isinstance(module, BATCH_NORMS) else fold_padding
            folded = folding(layers[-1], new[0]) if layers and new else None
            if folded is None:
                layers += new
            else:
                layers[-1] = folded
    return tuple(layers)


def expect_agreement(input_shape: Shape, forward: Callable[[Array], Array], module: nn.Module) -> None:
    """Raise ExportError unless the exported network's `forward` and the module give the same outputs.

    They are tried on seeded normal inputs of several scales, two at a time.
    """
    rng = np.random.default_rng(0)
    for scale in _SCALES:
        inputs = scale * rng.standard_normal((2, *input_shape))
        expected = module(torch.tensor(inputs)).numpy()  # a copy, which the module may change in place
        with np.errstate(over="ignore"):  # a saturated sigmoid
            outputs = forward(inputs)
        difference = np.abs(outputs - expected).max() if outputs.shape == expected.shape else np.inf
        if not difference <= RTOL * np.abs(expected).max():
            raise ExportError(
                f"{type(module).__name__}: the exported network differs from the module by {difference:.1e} at inputs "
                f"of scale {scale:g}; look for hooks and for layers that change their input in place"
            )
