"""torch -> `Network`: the last step that knows torch. What it cannot represent it refuses by name.

The module's forward is traced symbolically (torch.fx), so layers called as functions count like modules. The exported
network is then run beside the module in float64, on random inputs, before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import fx, nn

from certlip.base.errors import ExportError
from certlip.network import Array, Layer, Network, Shape, operators
from certlip.pytorch.layers import BATCH_NORMS, convert, fold, fold_padding, refused
from certlip.pytorch.plain import plain_copy
from certlip.pytorch.tracing import METADATA, module_of, operation_of, qualified_name, run_node, trace

RTOL = 1e-10
"""Largest difference between the module's and the network's outputs, relative to the largest output."""

_SCALES = (1e-2, 1.0, 1e2)
_FURTHER_SCALES = tuple(10.0**e for k in range(50, 301, 50) for e in (-k, k))

_LEAST, _LARGEST = 1e-280, 1e280
"""Sizes of values between which neither these overflow nor what is added up to them loses digits."""


def export_network(module: nn.Module, input_shape: Shape) -> Network:
    """The chain of layers that `module` computes in eval mode, its weights as float64; the module is not changed.

    input_shape: (channels, rows, columns) or (n,), without a batch axis.

    The network is what is bounded, its numbers taken as exact. They are the module's own where those are float64 or
    narrower, except that 1 / k^2 of an average pooling, a batch normalisation folded into a layer, and evaluated
    parametrizations are rounded to float64; what a module rounds on its way in half or single precision is not in it.

    Raises UnsupportedLayer naming a layer or operation that no bound covers, ExportError if the network is not the
    module, and what `plain_copy` raises.
    """
    input_shape = tuple(int(n) for n in input_shape)
    double = plain_copy(module, input_shape)
    with torch.no_grad():
        inputs = torch.zeros(2, *input_shape, dtype=torch.float64)
        network = Network(_read_layers(trace(double), inputs), input_shape)
        expect_agreement(network.input_shape, partial(_values, network), double)
    return network


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


def expect_agreement(input_shape: Shape, values_of: Callable[[Array], Sequence[Array]], module: nn.Module) -> None:
    """Raise ExportError unless the exported network and the module give the same outputs.

    values_of: the values of each layer of the network, the outputs last. Inputs are normal, seeded, of several scales,
    two at a time. A scale at which some values are close to overflow or underflow says nothing; further scales are
    tried if there is no other.
    """
    rng = np.random.default_rng(0)
    compared = informative = False
    for scale in (*_SCALES, *_FURTHER_SCALES):
        if informative and scale in _FURTHER_SCALES:
            break
        inputs = scale * rng.standard_normal((2, *input_shape))
        with np.errstate(all="ignore"):
            values = values_of(inputs)
        sizes = [float(np.abs(value).max(initial=0.0)) for value in values]
        if not all(size == 0 or _LEAST < size < _LARGEST for size in sizes):
            continue
        expected = module(torch.tensor(inputs)).numpy()  # a copy, which the module may change in place
        difference = np.abs(values[-1] - expected).max() if values[-1].shape == expected.shape else np.inf
        if not difference <= RTOL * np.abs(expected).max():
            raise ExportError(
                f"{type(module).__name__}: the exported network differs from the module by {difference:.1e} at inputs "
                f"of scale {scale:g}; look for layers that change their input in place or keep a state"
            )
        compared, informative = True, informative or sizes[-1] > 0
    if not compared:
        raise ExportError(
            f"{type(module).__name__}: its values overflow or underflow at inputs of every scale, so that the exported "
            "network cannot be compared with it; rescale the weights"
        )


def _values(network: Network, inputs: Array) -> list[Array]:
    """Inputs, and the values of each layer."""
    values = [np.asarray(inputs, dtype=np.float64)]
    for layer in network.layers:
        values.append(operators.apply(layer, values[-1]))
    return values
