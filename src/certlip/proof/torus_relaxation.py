"""A network of convolutions as nodes on tori: what its ascent runs on, and what its certificate proves.

Values z_0 = x, z_1, ..., z_K. Node k reads y_k = sum over its edges of W z_j and gives z_k = phi_k(y_k), where for the
increments of each channel, in Euclidean norms over the channel's whole map,

    |z - m y| <= h |y|.

Every map lies on a torus, inside a region of its own shape that begins at the torus's origin, and is zero elsewhere. A
convolution with zero padding reads a gap of zeros that serves both ends, so on the region of its output it is the
circular convolution; what that computes elsewhere is set to zero by the node that follows: a mask has slopes in [0, 1],
so phi_k has slopes in the hull of its own and 0. All maps of one resolution share a torus, and a stride s leads from
one of side s N to one of side N. The mean over a whole map, which global average pooling is, leads to a point, as the
sum over the torus: elsewhere the map is zero. On points, dense layers are convolutions of kernel 1.

The maps of a torus, of any values whatever, include the network's own. So a bound of the circular network is one of the
network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np

from certlip.base.errors import UnsupportedLayer
from certlip.base.rounding import gamma, sqrt_up, up
from certlip.network import (
    Activation,
    Array,
    Concat,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Network,
    Pair,
    Shape,
    Sum,
)
from certlip.network.chain import SMALLEST

POINT: Pair = (0, 0)
"""The resolution of values that are no maps."""


@dataclass(frozen=True, eq=False)
class Edge:
    """z_source -> its part of y, on another map or the same.

    weight: (c_out, c_in, k_h, k_w), on a torus y[i] = sum_u weight[u] z[stride i + dilation u - offset]; for `mean`,
    kernel 1: y = weight times the sum of z over its torus; radius: elementwise distance to the exact weight, None where
    it is exact.
    """

    source: int
    weight: Array
    radius: Array | None = None
    offset: Pair = (0, 0)
    dilation: Pair = (1, 1)
    stride: Pair = (1, 1)
    mean: bool = False


@dataclass(frozen=True, eq=False)
class Node:
    """z = phi(y) with |z - m y| <= h |y| a channel.

    name: of its layer; before, after: resolutions of y and of z, which differ for max pooling; edges: of y; the input
    has none.
    """

    name: str
    channels: int
    before: Pair
    after: Pair
    m: float = 0.5
    h: float = 0.5
    edges: tuple[Edge, ...] = ()


@dataclass(frozen=True, eq=False)
class Relaxation:
    """nodes: the input first, each after those that it reads; output: edges of the last y, at the resolution `level`.

    A resolution is how many pixels of the input a step takes, by rows and columns; coarsest: of those of maps; sides:
    of the torus at the coarsest, rows and columns.
    """

    nodes: tuple[Node, ...]
    output: tuple[Edge, ...]
    n_outputs: int
    level: Pair
    coarsest: Pair
    sides: Pair

    @classmethod
    def of(cls, network: Network) -> Relaxation:
        """Raises UnsupportedLayer naming what does not live on a torus."""
        return _Builder().build(network)

    def side(self, level: Pair) -> Pair:
        """Of the torus of a resolution; of a point 1."""
        if level == POINT:
            return 1, 1
        rows, columns = (n * c // s for n, c, s in zip(self.sides, self.coarsest, level, strict=True))
        return rows, columns

    @property
    def has_points(self) -> bool:
        """Whether a mean is taken anywhere."""
        return any(edge.mean for edges in (*(node.edges for node in self.nodes), self.output) for edge in edges)


@dataclass(frozen=True, eq=False)
class _Value:
    """A value of the graph as edges from nodes; node: the one that it is, if it is one."""

    edges: tuple[Edge, ...]
    shape: Shape
    level: Pair
    node: int | None = None


@dataclass
class _Builder:
    """nodes: made so far; needed: rows and columns that the torus of each resolution has at least."""

    nodes: list[Node] = field(default_factory=list)
    needed: dict[Pair, Pair] = field(default_factory=dict)

    def build(self, network: Network) -> Relaxation:
        if len(network.input_shape) != 3:
            raise UnsupportedLayer(f"the input {network.input_shape} is no map (channels, rows, columns)")
        self.nodes.append(Node("input", network.input_shape[0], (1, 1), (1, 1)))
        values = [self._value_of(0, network.input_shape)]
        for layer, sources in zip(network.layers, network.sources, strict=True):
            values.append(self._layer(layer, *(values[s] for s in sources)))
        output = values[-1]
        levels = [level for level in self.needed if level != POINT]
        coarsest = max(levels, key=math.prod)
        for fine, coarse in pairwise(sorted(levels, key=math.prod)):
            if coarse[0] % fine[0] or coarse[1] % fine[1]:
                raise UnsupportedLayer(f"resolutions of {fine} and {coarse} pixels do not divide each other")
        sides = [
            max(-(-self.needed[level][axis] * level[axis] // coarsest[axis]) for level in levels) for axis in (0, 1)
        ]
        return Relaxation(
            tuple(self.nodes), output.edges, output.shape[0], output.level, coarsest, (sides[0], sides[1])
        )

    def _need(self, level: Pair, rows: int, columns: int) -> None:
        known = self.needed.get(level, (1, 1))
        self.needed[level] = max(known[0], rows), max(known[1], columns)

    def _value_of(self, node: int, shape: Shape) -> _Value:
        level = self.nodes[node].after
        if level != POINT:
            self._need(level, *shape[1:])
        return _Value((Edge(node, _identity(shape[0])),), shape, level, node)

    def _layer(self, layer: Layer, *sources: _Value) -> _Value:
        value = sources[0]
        match layer:
            case Sum():
                return _added(layer, sources)
            case Concat():
                return _concatenated(layer, sources)
            case Activation(slopes=(least, most)):
                a, b = float(np.min(least)), float(np.max(most))  # one multiplier a channel, one m and h a node
                return value if (a, b) == (1.0, 1.0) else self._activated(layer.name, value, a, b)
            case Flatten() if math.prod(value.shape[1:]) == 1:
                if value.level == POINT:
                    return replace(value, shape=(value.shape[0],))
                return self._averaged(layer.name, value, np.eye(value.shape[0]))
            case Dense() if value.level == POINT:
                return _mixed(value, layer.weight)
            case Conv() if _is_pointwise(layer):
                return _mixed(value, layer.ungrouped[:, :, 0, 0])
            case Conv() | MaxPool() if value.level == POINT:
                raise UnsupportedLayer(f"{layer.name}: no torus for windows of a point, which has no neighbours")
            case Conv() if self._is_mean(layer, value.shape):
                return self._averaged(layer.name, value, layer.ungrouped[:, :, 0, 0])
            case Conv():
                return self._convolved(layer, value)
            case MaxPool():
                return self._pooled(layer, value)
        raise UnsupportedLayer(f"{layer.name}: no torus for {type(layer).__name__} of {value.shape}")

    @staticmethod
    def _is_mean(layer: Conv, shape: Shape) -> bool:
        """Whether every output is a multiple of the sum over the whole map of a channel."""
        kernel = layer.weight
        whole = kernel.shape[2:] == shape[1:] and not any(layer.padding) and math.prod(shape[1:]) > 1
        return whole and bool((kernel == kernel[:, :, :1, :1]).all())

    def _activated(self, name: str, value: _Value, a: float, b: float) -> _Value:
        m, h = middle_and_radius(*with_zero(a, b))
        self.nodes.append(Node(name, value.shape[0], value.level, value.level, m, h, value.edges))
        return self._value_of(len(self.nodes) - 1, value.shape)

    def _masked(self, name: str, value: _Value) -> _Value:
        """The value as that of a node, zero outside its region."""
        return value if value.node is not None else self._activated(name, value, 0.0, 1.0)

    def _convolved(self, layer: Conv, value: _Value) -> _Value:
        source = self._masked(f"mask before {layer.name}", value)
        shape = layer.output_shape(source.shape)
        top, _, left, _ = layer.padding
        sides = [
            max(n + before, s * (n_out - 1) + extent - before)
            for n, n_out, before, extent, s in zip(
                source.shape[1:], shape[1:], (top, left), layer.kernel_extent, layer.stride, strict=True
            )
        ]
        self._need(source.level, *sides)
        level = source.level[0] * layer.stride[0], source.level[1] * layer.stride[1]
        self._need(level, *shape[1:])
        kernel, node = layer.ungrouped, source.node or 0
        edge = Edge(node, kernel, offset=(top, left), dilation=layer.dilation, stride=layer.stride)
        return _Value((edge,), shape, level)

    def _averaged(self, name: str, value: _Value, weight: Array) -> _Value:
        source = self._masked(f"mask before {name}", value)
        edge = Edge(source.node or 0, weight[:, :, None, None], mean=True)
        return _Value((edge,), (len(weight), 1, 1), POINT)

    def _pooled(self, layer: MaxPool, value: _Value) -> _Value:
        shape = layer.output_shape(value.shape)
        level = value.level[0] * layer.stride[0], value.level[1] * layer.stride[1]
        h = sqrt_up(float(most_windows(layer, shape)))
        self.nodes.append(Node(layer.name, shape[0], value.level, level, 0.0, h, value.edges))
        self._need(level, *shape[1:])
        return self._value_of(len(self.nodes) - 1, shape)


def with_zero(a: float, b: float) -> tuple[float, float]:
    """The smallest interval that holds the slopes and 0, which a neuron outside of its map has."""
    return min(a, 0.0), max(b, 0.0)


def middle_and_radius(a: float, b: float) -> tuple[float, float]:
    """m and h with [a, b] inside [m - h, m + h], rounding included."""
    m, h = (a + b) / 2, (b - a) / 2
    while Fraction(m) - Fraction(h) > Fraction(a) or Fraction(m) + Fraction(h) < Fraction(b):
        h = up(h)
    return m, h


def most_windows(layer: MaxPool, shape: Shape) -> int:
    """The largest number of windows that share a pixel; shape: of the output."""
    return math.prod(min(-(-k // s), n) for k, s, n in zip(layer.kernel, layer.stride, shape[1:], strict=True))


def _identity(channels: int) -> Array:
    return np.eye(channels)[:, :, None, None]


def _is_pointwise(layer: Conv) -> bool:
    """Whether it mixes the channels of each pixel and does nothing besides."""
    return layer.weight.shape[2:] == (1, 1) and layer.stride == (1, 1) and not any(layer.padding)


def _mixed(value: _Value, weight: Array) -> _Value:
    """weight (c_out, c_in) times the value, at each pixel."""
    if value.node is not None:
        edges = tuple(replace(edge, weight=weight[:, :, None, None]) for edge in value.edges)
    else:
        edges = tuple(_product(weight, edge) for edge in value.edges)
    return _Value(edges, (len(weight), *value.shape[1:]), value.level)


def _product(weight: Array, edge: Edge) -> Edge:
    """The edge times a matrix (c_out, c_in), with what rounding may do to it."""

    def times(matrix: Array, kernel: Array) -> Array:
        return np.einsum("oi,icuv->ocuv", matrix, kernel)

    magnitude = np.abs(edge.weight) * gamma(weight.shape[1] + 4) + SMALLEST  # what underflows here, a weight amplifies
    if edge.radius is not None:
        magnitude += edge.radius * (1 + gamma(8))
    radius = times(np.abs(weight), magnitude) * (1 + gamma(weight.shape[1] + 4)) + weight.shape[1] * SMALLEST
    return replace(edge, weight=times(weight, edge.weight), radius=radius)


def _scaled(name: str, value: _Value, factor: Array) -> _Value:
    if factor.size == 1:
        scale = np.full(value.shape[0], factor.item())
    elif factor.shape == (value.shape[0], *[1] * (len(value.shape) - 1)):
        scale = factor.ravel()
    elif len(value.shape) == 1:
        scale = np.broadcast_to(factor, value.shape)
    else:
        raise UnsupportedLayer(
            f"{name}: no torus for a factor of shape {factor.shape} that differs from pixel to pixel"
        )
    if (scale == 1).all():
        return value
    return replace(_mixed(value, np.diag(scale)), shape=value.shape)


def _added(layer: Sum, values: Sequence[_Value]) -> _Value:
    scaled = [_scaled(layer.name, value, factor) for value, factor in zip(values, layer.factors, strict=True)]
    if len({value.level for value in scaled}) > 1:
        raise UnsupportedLayer(f"{layer.name}: no torus for a sum of values of different resolution")
    return replace(scaled[0], edges=tuple(edge for value in scaled for edge in value.edges), node=None)


def _concatenated(layer: Concat, values: Sequence[_Value]) -> _Value:
    if layer.axis != 0 or len({value.level for value in values}) > 1:
        raise UnsupportedLayer(f"{layer.name}: no torus for a concatenation along axis {layer.axis}")
    total, first, edges = sum(value.shape[0] for value in values), 0, []
    for value in values:
        for edge in value.edges:
            ends = (first, total - first - value.shape[0])
            radius = None if edge.radius is None else _among_zeros(edge.radius, *ends)
            edges.append(replace(edge, weight=_among_zeros(edge.weight, *ends), radius=radius))
        first += value.shape[0]
    return _Value(tuple(edges), (total, *values[0].shape[1:]), values[0].level)


def _among_zeros(kernel: Array, before: int, after: int) -> Array:
    """The kernel with so many output channels of zeros before and after its own."""
    return np.pad(kernel, [(before, after), (0, 0), (0, 0), (0, 0)])
