"""Maxima of two values, and sorted pairs, written with absolute values: max(a, b) = (a + b) / 2 + |a - b| / 2.

It is the same function, exactly, in layers that every method for chains takes. Sums and halves are no rounded numbers,
and the inequality of an absolute value says all that there is to say of a sorted pair: that of the network with the
pairs proves the constant one of a sorting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from certlip.network import Activation, Along, Gather, Layer, Maximum, Network, Shape, Sort, Sum

_ONE, _HALF, _ZERO = np.array(1.0), np.array(0.5), np.array(0.0)


def with_absolute_values(network: Network) -> Network:
    """The same function; the network itself where nothing is to be written so."""
    if not any(_is_pair(layer, shape) for layer, shape in network.with_shapes):
        return network
    layers: list[Layer] = []
    sources: list[tuple[int, ...]] = []
    at = [0]

    def add(layer: Layer, *of: int) -> int:
        layers.append(layer)
        sources.append(of)
        return len(layers)

    for (layer, shape), of_layer in zip(network.with_shapes, network.sources, strict=True):
        here = [at[s] for s in of_layer]
        if isinstance(layer, Maximum):
            reached = here[0]
            for other in here[1:]:
                total = add(Sum(f"{layer.name} sum", (_ONE, _ONE), _ZERO), reached, other)
                difference = add(Sum(f"{layer.name} difference", (_ONE, -_ONE), _ZERO), reached, other)
                distance = add(Activation(layer.name, "abs"), difference)
                half = -_HALF if layer.least else _HALF
                reached = add(Sum(f"{layer.name} half", (_HALF, half), _ZERO), total, distance)
        elif isinstance(layer, Sort) and _is_pair(layer, shape):
            reached = here[0]
            for one in _sorted_pairs(layer, shape):
                reached = add(one, reached)
        else:
            reached = add(layer, *here)
        at.append(reached)
    return Network(tuple(layers), network.input_shape, tuple(sources))


def _is_pair(layer: Layer, shape: Shape) -> bool:
    return isinstance(layer, Maximum) or (isinstance(layer, Sort) and shape[layer.axis] == 2)


def _sorted_pairs(layer: Sort, shape: Shape) -> Iterator[Layer]:
    """(a, b) -> (a + b, a - b) -> (a + b, |a - b|) -> the smaller and the larger, along the first axis."""
    order = np.arange(float(math.prod(shape))).reshape(shape)
    first = np.moveaxis(order, layer.axis, 0)
    back = np.moveaxis(order.reshape(first.shape), 0, layer.axis)
    if layer.axis:
        yield Gather(f"{layer.name} pairs", np.ascontiguousarray(first))
    yield Along(f"{layer.name} sum", 0, np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros(2))
    yield Activation(layer.name, "leaky_relu", np.array([1.0, -1.0]))
    yield Along(f"{layer.name} half", 0, np.array([[0.5, -0.5], [0.5, 0.5]]), np.zeros(2))
    if layer.axis:
        yield Gather(f"{layer.name} back", np.ascontiguousarray(back))
