"""torch -> `Network`: the last step that knows torch. What it cannot represent it refuses by name.

The module's forward is traced symbolically (torch.fx), so layers called as functions count like modules. The exported
network is then run beside the module in float64, on random inputs, before it is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from certlip.base.errors import ExportError, UnsupportedLayer
from certlip.network import Array, Concat, Gather, Layer, Maximum, Network, Shape, Sum
from certlip.pytorch.couples import with_couples
from certlip.pytorch.folding import as_linear, before_choice, fold
from certlip.pytorch.graph import Node, walk
from certlip.pytorch.ordering import PAIRS
from certlip.pytorch.plain import plain_copy

RTOL = 1e-10
"""Largest difference between the module's and the network's outputs, relative to the largest output."""

_SCALES = (1e-2, 1.0, 1e2)
_FURTHER_SCALES = tuple(10.0**e for k in range(50, 301, 50) for e in (-k, k))

_LEAST, _LARGEST = 1e-280, 1e280
"""Sizes of values between which neither these overflow nor what is added up to them loses digits."""

_SUMS = ("add", "iadd", "sub", "isub")
_DIVISIONS = ("div", "truediv", "itruediv")
_SCALINGS = ("mul", "imul", "neg", *_DIVISIONS)
_CONCATS = ("cat", "concat")


def export_network(module: nn.Module, input_shape: Shape) -> Network:
    """What `module` computes in eval mode as a graph of layers, weights as float64; the module is not changed.

    input_shape: (channels, rows, columns) or (n,), without a batch axis.

    The network is what is bounded, its numbers taken as exact. They are the module's own where those are float64 or
    narrower, except that 1 / k^2 of an average pooling, a batch normalisation or another scaling folded into a layer,
    and evaluated parametrizations are rounded to float64; what a module rounds on its way in half or single precision
    is not in it.

    Raises UnsupportedLayer naming a layer or operation that no bound covers, DataError naming one with numbers that are
    not finite, ExportError if the network is not the module, and what `plain_copy` raises.
    """
    input_shape = tuple(int(n) for n in input_shape)
    double = plain_copy(module, input_shape)
    draft = _Draft()
    output, _ = walk(double, torch.zeros(2, *input_shape, dtype=torch.float64), draft.add)
    network = draft.network(output, input_shape)
    with torch.no_grad():
        expect_agreement(network, double)
    return network


def expect_agreement(network: Network, module: nn.Module) -> None:
    """Raise ExportError unless the exported network and the module give the same outputs.

    Inputs are normal, seeded, of several scales,
    three at a time: the graph was read off with two. A scale at which some values are close to overflow or underflow
    says nothing; further scales are tried if there is no other.
    """
    rng = np.random.default_rng(0)
    compared = informative = False
    for scale in (*_SCALES, *_FURTHER_SCALES):
        if informative and scale in _FURTHER_SCALES:
            break
        inputs = scale * rng.standard_normal((3, *network.input_shape))
        with np.errstate(all="ignore"):
            values = network.values_of(inputs)
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


@dataclass
class _Draft:
    """The layers of a module's nodes, in order; sources: as of `Network`; at: position of the value of each node."""

    layers: list[Layer] = field(default_factory=list)
    sources: list[tuple[int, ...]] = field(default_factory=list)
    at: list[int] = field(default_factory=lambda: [0])
    refusals: list[UnsupportedLayer] = field(default_factory=list)

    def add(self, node: Node) -> None:
        sources = tuple(self.at[s] for s in node.sources)
        try:
            layers = layers_of(node)
        except UnsupportedLayer as refusal:
            self.refusals.append(refusal)
            layers = []
        for layer in layers:
            self.layers.append(layer)
            self.sources.append(sources)
            sources = (len(self.layers),)
        self.at.append(sources[0])

    def network(self, output: int, input_shape: Shape) -> Network:
        """What leads to the value of a node, scalings and paddings folded into the layers beside them.

        Raises UnsupportedLayer naming every node that no bound covers.
        """
        if self.refusals:
            raise UnsupportedLayer("; ".join(dict.fromkeys(map(str, self.refusals))))
        given = Network(tuple(self.layers[: self.at[output]]), input_shape, tuple(self.sources[: self.at[output]]))
        given = with_couples(given)
        layers: list[Layer] = []
        sources: list[tuple[int, ...]] = []
        at = [0]
        for layer, of_layer, shape in zip(given.layers, given.sources, given.shapes[1:], strict=True):
            here = tuple(at[s] for s in of_layer)
            into, read = here[0], of_layer[0]
            passed: Layer | None = layer
            choice = given.layers[read - 1] if read and _is_read_once(given, read) else None
            if isinstance(choice, Gather):  # a scaling of what was chosen is one of what it was chosen from
                (read,) = given.sources[read - 1]
                into, passed = at[read], before_choice(layer, choice, given.shapes[read])
            before = layers[into - 1] if into and _is_read_once(given, read) else None
            folded = fold(before, passed, given.shapes[read]) if before and passed else None
            if folded is None:
                layers.append(as_linear(layer, shape))
                sources.append(here)
                at.append(len(layers))
            else:
                layers[into - 1] = folded
                at.append(here[0])
        return Network(tuple(layers), input_shape, tuple(sources))


def layers_of(node: Node) -> list[Layer]:
    """A node as layers of a `Network`; raises UnsupportedLayer naming it where there are none."""
    joint = _joint(node)
    return [joint] if joint else node.layers()


def _is_read_once(network: Network, value: int) -> bool:
    return sum(of_layer.count(value) for of_layer in network.sources) == 1


def _joint(node: Node) -> Layer | None:
    """A node that adds, scales, puts side by side or is a maximum of several values; None for any other."""
    same_shape = all(x.shape == node.output.shape for x in node.inputs)
    scaling = node.operation in _SCALINGS and len(node.inputs) == 1 and not node.repeated
    if same_shape and (scaling or node.operation in _SUMS):
        return _sum(node)
    if same_shape and node.operation in PAIRS and len(node.inputs) == 2:
        return Maximum(node.name, node.operation.startswith("min"))
    return _concat(node) if node.operation in _CONCATS and len(node.inputs) > 1 else None


def _sum(node: Node) -> Sum:
    """Offset and factors are the node's value and its slopes at zero."""
    zeros = [torch.zeros_like(x, requires_grad=True) for x in node.inputs]
    with torch.enable_grad():
        value = node.call(*zeros)
        slopes = torch.autograd.grad(value.sum(), zeros)
    if node.operation in _DIVISIONS and not value.isfinite().all():
        raise node.refused(" by what depends on the input")
    return Sum(node.name, tuple(map(_compact, slopes)), _compact(value))


def _concat(node: Node) -> Concat:
    """The axis is the one along which the output is longer; parts that are constant or repeated are refused."""
    output = node.output.shape
    axis = next((a for a, (n, m) in enumerate(zip(node.inputs[0].shape, output, strict=False)) if n != m), 1)
    if axis == 0 or sum(x.shape[axis] for x in node.inputs) != output[axis]:
        raise node.refused()
    return Concat(node.name, axis - 1)


def _compact(tensor: torch.Tensor) -> Array:
    """The numbers of one example, as one number a channel or one for all where they are equal."""
    array: Array = tensor.detach()[0].numpy().copy()
    if (array == array.reshape(-1)[0]).all():
        return array.reshape(-1)[0]
    first = array.reshape(len(array), -1)[:, :1].reshape(-1, *[1] * (array.ndim - 1))
    return first if (array == first).all() else array
