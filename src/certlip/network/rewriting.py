"""A network with residual sums and concatenations as a chain of wider layers, exactly.

What is computed side by side is one value, its channels side by side: relu(W2 relu(W1 x) + x) is the chain of [W1; I],
an activation, [W2, I] and relu, where the activation of the lower part is the identity, slope 1 on either side of zero.
A round of the rewriting is one linear layer, which takes all values that are still needed through at most one layer of
their own, sums and concatenations included, and one activation. A value that is needed later is carried as it is.

Each number of the chain is one of the network's, a product of one with a power of two, or an exact sum: what would be
rounded waits for the next round, where its parts stand apart. So the chain computes the same function.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from certlip.base.errors import UnsupportedLayer
from certlip.network import (
    LINEAR,
    Activation,
    Along,
    Array,
    Concat,
    Conv,
    Dense,
    Flatten,
    Gather,
    Layer,
    Linear,
    MaxPool,
    Network,
    Pair,
    Reshape,
    Shape,
    Softmax,
    Sort,
    Sum,
)

MOST_WEIGHTS = 10**8
"""Of a layer of the chain."""

_NEGATIVE_SLOPES = {"relu": 0.0, "abs": -1.0, "identity": 1.0}
"""Of activations that are a leaky ReLU."""


def as_chain(network: Network) -> Network:
    """The same function as a chain; raises UnsupportedLayer naming what cannot be written so."""
    state = _State(network, (0,), network.input_shape)
    layers: list[Layer] = []
    while state.values != (len(network.layers),):
        added, state = _windowed(state) or _round(state)
        layers += added
    chain = Network(tuple(layers), network.input_shape)
    if chain.shapes[-1] != network.shapes[-1]:
        raise RuntimeError(f"the chain gives {chain.shapes[-1]} where the network gives {network.shapes[-1]}")
    return chain


def _refused(layer: Layer, why: str) -> UnsupportedLayer:
    able = "`product` and `gram`" if isinstance(layer, Sort | Softmax) else "`product`, `gram` and `torus`"
    instead = f"methods {able} take it as it is"
    return UnsupportedLayer(f"{layer.name}: {why}, so that the network is no chain of layers; {instead}")


@dataclass(frozen=True, eq=False)
class _State:
    """Values of a network (their positions) side by side in one value of the chain; shape: of that."""

    network: Network
    values: tuple[int, ...]
    shape: Shape

    def select(self, value: int) -> _Affine:
        """One of the values."""
        widths = [self.network.shapes[v][0] for v in self.values]
        first = sum(widths[: self.values.index(value)])
        shape = self.network.shapes[value]
        _expect_fits(self.network.layers[max(value, 1) - 1], shape[0] * self.shape[0])
        weight = np.eye(shape[0], self.shape[0], first)[:, :, None, None]
        return _Affine(weight, np.zeros(shape[0]), shape)


@dataclass(frozen=True, eq=False)
class _Affine:
    """A value as a convolution of the state: y[r] = bias + sum_u weight[u] x[stride r + u - offset].

    weight: (c_out, c_in, k_h, k_w), of a flat state with kernel 1; shape: of the value; layers: in it; only: the layer
    that it is, where it is a layer of a state of one value.
    """

    weight: Array
    bias: Array
    shape: Shape
    offset: Pair = (0, 0)
    stride: Pair = (1, 1)
    layers: tuple[Layer, ...] = ()
    only: Layer | None = None

    @property
    def geometry(self) -> tuple[Pair, Shape]:
        """What values have alike that can be computed side by side."""
        return self.stride, self.shape[1:]

    def selects(self, state: _State) -> bool:
        """Whether it moves channels of the state, and turns their sign, at the most: products with it are exact."""
        kernel = self.weight[:, :, 0, 0]
        at_most_one = (np.count_nonzero(kernel, axis=0) <= 1).all() and np.isin(kernel, (-1.0, 0.0, 1.0)).all()
        in_place = self.weight.shape[2:] == (1, 1) and self.offset == (0, 0)
        return bool(in_place and self.geometry == ((1, 1), state.shape[1:]) and not self.bias.any() and at_most_one)

    def embedded(self, offset: Pair, kernel: Pair) -> Array:
        """The weight within a larger kernel of another offset."""
        before = [there - here for there, here in zip(offset, self.offset, strict=True)]
        after = [n - b - k for n, b, k in zip(kernel, before, self.weight.shape[2:], strict=True)]
        return np.pad(self.weight, [(0, 0), (0, 0), *zip(before, after, strict=True)])


def _windowed(state: _State) -> tuple[list[Layer], _State] | None:
    """A flattening or max pooling of the whole state, or where that is one value any other layer that is not written
    as a convolution of it, where nothing else is done with any of its values."""
    network, after = state.network, list[int]()
    side_by_side = Flatten | MaxPool
    kinds = side_by_side if len(state.values) > 1 else side_by_side | Reshape | Gather | Along | Sort | Softmax
    for value in state.values:
        users = _users(network, value)
        if len(users) != 1 or not isinstance(network.layers[users[0] - 1], kinds):
            return None
        after.append(users[0])
    layers = [network.layers[k - 1] for k in after]
    if len(layers) > 1 and len({repr(replace(layer, name="")) for layer in layers}) > 1:
        return None
    return [layers[0]], _State(network, tuple(after), layers[0].output_shape(state.shape))


def _users(network: Network, value: int) -> list[int]:
    """Positions of the values that are computed from a value and needed for the output."""
    needed = {len(network.layers)}
    for k in range(len(network.layers), 0, -1):
        if k in needed:
            needed.update(network.sources[k - 1])
    return [k for k in sorted(needed) if k and value in network.sources[k - 1]]


def _round(state: _State) -> tuple[list[Layer], _State]:
    """One linear layer and one activation, and the state behind them."""
    network, put_off = state.network, set[int]()
    while True:
        known = _reached(state, put_off)
        following = _following(network, known)
        plain = {v: known[v if v in known else network.sources[v - 1][0]] for v in following}
        if following == state.values:
            raise _refused(network.layers[max(put_off, default=_first_user(state)) - 1], _why(network, state, put_off))
        geometries = {affine.geometry for affine in plain.values()}
        if len(geometries) == 1:
            break
        # what keeps the size of the state goes first, the rest waits until all change it
        kept = ((1, 1), state.shape[1:])
        moved = {v if v in known else network.sources[v - 1][0] for v in following if plain[v].geometry != kept}
        put_off |= moved
    linear = _joined(state, list(plain.values()))
    activation = _activation(network, [(v, v in known) for v in following])
    layers = [layer for layer in (linear, activation) if layer is not None]
    shape = (sum(network.shapes[v][0] for v in following), *network.shapes[following[0]][1:])
    return layers, _State(network, following, shape)


def _first_user(state: _State) -> int:
    return min(k for value in state.values for k in _users(state.network, value))


def _why(network: Network, state: _State, put_off: set[int]) -> str:
    if put_off:
        return "it changes the size of a map while another one is carried past it"
    layer = network.layers[_first_user(state) - 1]
    if isinstance(layer, Sum):
        return "its numbers cannot be added up without rounding"
    return f"{type(layer).__name__} stands beside another branch"


def _reached(state: _State, put_off: set[int]) -> dict[int, _Affine]:
    """The values that one linear layer gives, without those that are put off."""
    network = state.network
    known = {value: state.select(value) for value in state.values}
    for k, (layer, sources) in enumerate(zip(network.layers, network.sources, strict=True), start=1):
        if k in known or k in put_off or not all(s in known for s in sources):
            continue
        found = _through(layer, [known[s] for s in sources], state)
        if found is not None:
            known[k] = found
    return known


def _following(network: Network, known: dict[int, _Affine]) -> tuple[int, ...]:
    """Values of the next state: known ones, and activations of such, of which the output can be computed."""
    found: dict[int, None] = {}

    def visit(value: int) -> None:
        if value in found:
            return
        activated = value and isinstance(network.layers[value - 1], Activation)
        if value in known or (activated and network.sources[value - 1][0] in known):
            found[value] = None
            return
        for source in network.sources[value - 1]:
            visit(source)

    visit(len(network.layers))
    return tuple(found)


def _through(layer: Layer, sources: Sequence[_Affine], state: _State) -> _Affine | None:
    """A layer of values of the state; None where that is not linear, or would be rounded."""
    match layer:
        case Conv() | Dense() | Along(axis=0) if sources[0].selects(state):
            return _of_layer(layer, sources[0], state)
        case Activation(kind="identity"):
            return sources[0]
        case Sum():
            return _sum(layer, sources)
        case Concat(axis=0) if len({s.geometry for s in sources}) == 1:
            bias = np.concatenate([s.bias for s in sources])
            shape = (len(bias), *sources[0].shape[1:])
            weight, offset = _side_by_side(sources)
            return _Affine(weight, bias, shape, offset, sources[0].stride, (*_layers(sources), layer))
    return None


def _of_layer(layer: Linear, source: _Affine, state: _State) -> _Affine:
    shape = layer.output_shape(source.shape)
    only = layer if len(state.values) == 1 and not source.layers else None
    _expect_fits(layer, shape[0] * state.shape[0] * (math.prod(layer.kernel_extent) if isinstance(layer, Conv) else 1))
    if not isinstance(layer, Conv):
        kernel, offset, stride = layer.weight[:, :, None, None], (0, 0), (1, 1)
    else:
        kernel, offset, stride = _undilated(layer), (layer.padding[0], layer.padding[2]), layer.stride
    weight = np.einsum("omuv,mi->oiuv", kernel, source.weight[:, :, 0, 0], optimize=True)
    return _Affine(weight, layer.bias, shape, offset, stride, (*source.layers, layer), only)


def _undilated(layer: Conv) -> Array:
    """The kernel without groups, with zeros between its taps."""
    kernel = layer.ungrouped
    spread = np.zeros((*kernel.shape[:2], *layer.kernel_extent))
    spread[:, :, :: layer.dilation[0], :: layer.dilation[1]] = kernel
    return spread


def _sum(layer: Sum, sources: Sequence[_Affine]) -> _Affine | None:
    """None where a number of it would be rounded, or maps of different size are added."""
    if len({s.geometry for s in sources}) > 1:
        return None
    numbers = layer.per_channel(sources[0].shape)
    if numbers is None:
        raise _refused(layer, "its numbers differ from pixel to pixel")
    factors, offset = numbers
    weights: list[Array | None] = []
    biases: list[Array | None] = [offset]
    corner, kernel = _common(sources)
    for source, factor in zip(sources, factors, strict=True):
        weights.append(_product(source.embedded(corner, kernel), factor[:, None, None, None]))
        biases.append(_product(source.bias, factor))
    weight, bias = _exact_sum(weights), _exact_sum(biases)
    if weight is None or bias is None:
        return None
    return _Affine(weight, bias, sources[0].shape, corner, sources[0].stride, (*_layers(sources), layer))


def _product(array: Array, factor: Array) -> Array | None:
    """Their product; None where it would be rounded."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = array * factor
        exact = (_are_powers(array) | _are_powers(factor)) & np.isfinite(product)
        exact &= (product == 0) == ((array == 0) | (factor == 0))
        exact &= (np.abs(product) > 2.0**-1000) | (product == 0)
    return product if exact.all() else None


def _are_powers(array: Array) -> NDArray[np.bool_]:
    """Where an entry is zero or a power of two, with any sign."""
    return (array == 0) | (np.abs(np.frexp(array)[0]) == 0.5)


def _exact_sum(arrays: Sequence[Array | None]) -> Array | None:
    """Their sum; None where one is missing or it would be rounded."""
    total = np.zeros(1)
    for array in arrays:
        if array is None:
            return None
        added = total + array
        # the error of a sum is a double, and this finds it (Knuth, The Art of Computer Programming 2, 4.2.2)
        part = added - total
        if ((total - (added - part)) + (array - part)).any():
            return None
        total = added
    return total


def _common(affines: Sequence[_Affine]) -> tuple[Pair, Pair]:
    """Offset and kernel of the smallest convolution that holds all of them."""
    offset = [max(a.offset[axis] for a in affines) for axis in (0, 1)]
    reach = [max(a.weight.shape[2 + axis] - a.offset[axis] for a in affines) for axis in (0, 1)]
    return (offset[0], offset[1]), (offset[0] + reach[0], offset[1] + reach[1])


def _side_by_side(affines: Sequence[_Affine]) -> tuple[Array, Pair]:
    """Their weights, outputs one after the other, and the offset."""
    offset, kernel = _common(affines)
    return np.concatenate([affine.embedded(offset, kernel) for affine in affines]), offset


def _layers(affines: Iterable[_Affine]) -> tuple[Layer, ...]:
    return tuple(dict.fromkeys(layer for affine in affines for layer in affine.layers))


def _joined(state: _State, affines: Sequence[_Affine]) -> Layer | None:
    """The linear layer of a round; None where it would change nothing."""
    if len(affines) == 1 and affines[0].only is not None:
        return affines[0].only
    layers = _layers(affines)
    n_taps = math.prod(_common(affines)[1])
    named = [layer.name for layer in layers if isinstance(layer, LINEAR)] or [layer.name for layer in layers]
    n_weights = sum(len(affine.weight) for affine in affines) * state.shape[0] * n_taps
    _expect_fits(layers[0] if layers else state.network.layers[0], n_weights)
    weight, offset = _side_by_side(affines)
    bias = np.concatenate([affine.bias for affine in affines])
    eye = np.eye(state.shape[0])
    if all(affine.selects(state) for affine in affines) and np.array_equal(weight[:, :, 0, 0], eye):
        return None
    name = " + ".join(named) or "carried"
    if len(state.shape) == 1:
        return Dense(name, weight[:, :, 0, 0], bias)
    if len(state.shape) != 3:
        return Along(name, 0, weight[:, :, 0, 0], bias)
    stride = affines[0].stride
    ends = [
        max(0, (n_out - 1) * s + k - before - n)
        for n_out, s, k, before, n in zip(
            affines[0].shape[1:], stride, weight.shape[2:], offset, state.shape[1:], strict=True
        )
    ]
    return Conv(name, weight, bias, stride, (offset[0], ends[0], offset[1], ends[1]))


def _activation(network: Network, values: Sequence[tuple[int, bool]]) -> Activation | None:
    """The activation of a round; values: positions of the values behind it, and whether each is carried."""
    layers = [None if carried else network.layers[v - 1] for v, carried in values]
    applied = [layer for layer in layers if isinstance(layer, Activation)]
    if not applied:
        return None
    first = applied[0]
    if len(applied) == len(layers) and all(_alike(first, other) for other in applied[1:]):
        return first
    slopes: list[Array] = []
    for layer, (v, _) in zip(layers, values, strict=True):
        n = network.shapes[v][0]
        if not isinstance(layer, Activation):
            slope: float | Array = 1.0
        elif layer.kind == "leaky_relu":
            slope = layer.negative_slope
        elif layer.kind in _NEGATIVE_SLOPES:
            slope = _NEGATIVE_SLOPES[layer.kind]
        else:
            raise _refused(layer, f"no activation of a chain is {layer.kind} beside something else")
        slopes.append(np.broadcast_to(slope, n))
    return Activation(first.name, "leaky_relu", np.concatenate(slopes))


def _alike(first: Activation, other: Activation) -> bool:
    """Whether two activations are the same function, whatever the number of channels."""
    if first.kind != other.kind or first.parameters != other.parameters:
        return False
    numbers = [activation.negative_slope for activation in (first, other)]
    return not any(isinstance(n, np.ndarray) for n in numbers) and numbers[0] == numbers[1]


def _expect_fits(layer: Layer, n_weights: int) -> None:
    if n_weights > MOST_WEIGHTS:
        raise _refused(layer, f"beside the other branches it would take {n_weights:.0e} weights")
