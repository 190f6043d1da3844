"""torch -> `Graph`, for modules that are no chains: residual sums, scalings and concatenations besides layers."""

from __future__ import annotations

import torch
from torch import nn

from certlip.base.errors import ExportError, UnsupportedLayer
from certlip.network import Array, Network, Shape
from certlip.network.computation_graph import Concat, Graph, Step, Sum
from certlip.pytorch.export import expect_agreement
from certlip.pytorch.graph import Node, walk
from certlip.pytorch.plain import plain_copy

_SUMS = ("add", "iadd", "sub", "isub")
_SCALINGS = ("mul", "imul", "neg")
_CONCATS = ("cat", "concat")


def export_graph(module: nn.Module, input_shape: Shape) -> Graph:
    """What `module` computes, run beside it on random inputs before it is believed.

    input_shape: of one example. The graph is what is bounded, as in `certlip.pytorch.export.export_network`.

    Raises UnsupportedLayer naming a node that is none of these, or the module if the graph does not compute it;
    DataError naming a node with numbers that are not finite, and what `plain_copy` raises.
    """
    steps: list[Step] = []
    double = plain_copy(module, input_shape)
    output = walk(double, input_shape, lambda node: steps.append(Step(node.name, node.sources, _operation(node))), 0)
    graph = Graph(tuple(steps[:output]), input_shape)
    with torch.no_grad():
        try:
            expect_agreement(graph.input_shape, graph.values, double)
        except ExportError as error:
            raise UnsupportedLayer(str(error)) from error
    return graph


def _operation(node: Node) -> Network | Sum | Concat:
    same_shape = all(x.shape == node.output.shape for x in node.inputs)
    scaling = node.operation in _SCALINGS and len(node.inputs) == 1 and not node.repeated
    if same_shape and (scaling or node.operation in _SUMS):
        return _sum(node)
    if node.operation in _CONCATS:
        return _concat(node)
    return Network(tuple(node.layers()), tuple(node.inputs[0].shape[1:]))


def _sum(node: Node) -> Sum:
    """Offset and factors are the node's value and its slopes at zero."""
    zeros = [torch.zeros_like(x, requires_grad=True) for x in node.inputs]
    value = node.call(*zeros)
    slopes = torch.autograd.grad(value.sum(), zeros)
    return Sum(tuple(map(_compact, slopes)), _compact(value))


def _concat(node: Node) -> Concat:
    """The axis is the one along which the output is longer; parts that are constant or repeated are refused."""
    output = node.output.shape
    axis = next((a for a, (n, m) in enumerate(zip(node.inputs[0].shape, output, strict=False)) if n != m), 1)
    if axis == 0 or sum(x.shape[axis] for x in node.inputs) != output[axis]:
        raise node.refused()
    return Concat(axis - 1)


def _compact(tensor: torch.Tensor) -> Array:
    """The numbers of one example, as one number where they are equal."""
    array: Array = tensor.detach()[0].numpy().copy()
    return array.reshape(-1)[0] if (array == array.reshape(-1)[0]).all() else array
