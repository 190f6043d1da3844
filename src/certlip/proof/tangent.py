"""Values of a network at points, and a rigorous lower bound there, with the rounding of every step accounted for.

The lower bound is a directional derivative: every layer has one-sided ones, so f'(x; v) exists and |f'(x; v)| <= L |v|.
Values and tangents are computed in float64 together with elementwise bounds on their errors (Higham, Accuracy and
Stability, 3.1 and 3.5). Where the error leaves open on which side of a kink an input lies, the slope is only enclosed
between the activation's smallest and largest; that can lower the result, never falsify it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np

from certlip.base.rounding import UNIT, down, gamma, scale_down, up
from certlip.network import (
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
    Maximum,
    MaxPool,
    Network,
    Reshape,
    Softmax,
    Sort,
    Sum,
)
from certlip.network.slopes import along_channels

_TINY = 2.0**-1000
"""Above everything that underflow can add to one element of an array whose largest is near one: products of numbers
that are no larger lose 2^-1075 each."""

_LIBRARY = 64 * UNIT
"""Relative error granted to functions of the mathematics library, in units of an input times the steepest slope too."""

SLOPE_ERROR = 4 * _LIBRARY
"""Absolute error of a computed derivative whose steepest is one."""


@dataclass(frozen=True, eq=False)
class _Enclosed:
    """An array known up to an elementwise error: the exact one lies in (value +- error) 2^exponent.

    Shape (n, *shape), the largest element near one (`_enclosed`): powers of two are taken out exactly, so that what is
    claimed of 2^k f is 2^k times what is claimed of f, and underflow is small beside the largest element.
    """

    value: Array
    error: Array
    exponent: int = 0


def lower_at(network: Network, point: Array, direction: Array) -> float:
    """|f'(point; direction)| / |direction| of the exact network, rounded down: at or below its Lipschitz constant.

    point, direction: float64 arrays of `network.input_shape`, taken as exact. Zero where nothing can be proved
    (a zero direction, a point that is not finite).
    """
    if not (np.isfinite(point).all() and np.isfinite(direction).all()):
        return 0.0
    values, start = (_enclosed(np.asarray(a, dtype=np.float64)[None], 0.0) for a in (point, direction))
    tangents = start
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for layer in network.layers:
            values, tangents = _step(layer, values, tangents)
        return _ratio(tangents, start)


def outputs_within(network: Network, points: Array) -> tuple[Array, Array]:
    """Outputs at points, and how far each is at most from that of the exact network.

    points: float64, (n, *input_shape), taken as exact. Returns two arrays (n, *output shape); where nothing can be said
    the second is not finite.
    """
    return values_within(network, points)[-1]


def values_within(network: Network, points: Array) -> list[tuple[Array, Array]]:
    """The points, and the value of each layer there, each with how far it is at most from that of the exact network.

    As of `outputs_within`, of which the last one is.
    """
    values = [_enclosed(np.asarray(points, dtype=np.float64), 0.0)]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for layer, sources in zip(network.layers, network.sources, strict=True):
            values.append(_value(layer, *(values[s] for s in sources)))
        # one step up covers the half of the smallest double that either of them may lose here
        return [(np.ldexp(v.value, v.exponent), np.nextafter(np.ldexp(v.error, v.exponent), np.inf)) for v in values]


def _enclosed(value: Array, error: Array | float, exponent: int = 0) -> _Enclosed:
    """The same with its largest element near one; bits that fall below the smallest double are counted."""
    largest = float((np.abs(value) + error).max(initial=0.0))
    shift = int(np.frexp(largest)[1]) if math.isfinite(largest) else 0
    return _moved(_Enclosed(value, np.broadcast_to(error, value.shape), exponent + shift), -shift)


def _moved(x: _Enclosed, shift: int) -> _Enclosed:
    """Value and error times 2^shift, the exponent as it is."""
    return replace(x, value=np.ldexp(x.value, shift), error=np.ldexp(x.error, shift) + _TINY)


def _ratio(tangents: _Enclosed, direction: _Enclosed) -> float:
    least = np.maximum(np.abs(tangents.value) - tangents.error, 0.0)
    length = float(np.abs(direction.value).max(initial=0.0))
    largest = float(least.max(initial=0.0))
    if not (np.isfinite(least).all() and length > 0 and largest > 0):
        return 0.0
    # divided by the largest element, so that squares do not underflow to nothing
    attained = float(np.linalg.norm(least.ravel() / largest)) * (1 - gamma(least.size + 8)) * largest
    spent = float(np.linalg.norm(direction.value.ravel() / length)) * (1 + gamma(direction.value.size + 8)) * length
    return scale_down(down(down(attained) / up(spent)), tangents.exponent - direction.exponent)


def _step(layer: Layer, values: _Enclosed, tangents: _Enclosed) -> tuple[_Enclosed, _Enclosed]:
    match layer:
        case Conv() | Dense() | Along():
            linear = replace(layer, bias=np.zeros_like(layer.bias))
            return _affine(layer, values), _affine(linear, tangents)
        case Activation():
            z = _unscaled(layer, values)
            ends = np.nextafter(z.value - z.error, -np.inf), np.nextafter(z.value + z.error, np.inf)
            return _activate(layer, z), _scale(tangents, *layer.slopes_within(*ends, SLOPE_ERROR))
        case MaxPool():
            return _pool(layer, values, tangents)
        case Sort():
            return _sort(layer, values, tangents)
        case Softmax():
            return _softmax(layer, values, tangents)
        case Flatten() | Reshape() | Gather():
            return _rearrange(layer, values), _rearrange(layer, tangents)
        case Sum() | Concat() | Maximum():
            raise TypeError(f"{layer.name}: a chain has no layer of several values")
        case _:
            assert_never(layer)


def _value(layer: Layer, *inputs: _Enclosed) -> _Enclosed:
    x = inputs[0]
    match layer:
        case Conv() | Dense() | Along():
            return _affine(layer, x)
        case Activation():
            return _activate(layer, _unscaled(layer, x))
        case MaxPool():
            return _maxima(layer, x)
        case Sort():
            return _sorted(layer, x)
        case Softmax():
            return _probabilities(layer, x)
        case Sum():
            return _add(layer, inputs)
        case Concat() | Maximum():
            exponent = max(x.exponent for x in inputs)
            parts = [_moved(x, x.exponent - exponent) for x in inputs]
            value, errors = layer.apply(*(part.value for part in parts)), [part.error for part in parts]
            error = np.maximum.reduce(errors) if isinstance(layer, Maximum) else layer.apply(*errors)
            return _enclosed(value, error, exponent)
        case Flatten() | Reshape() | Gather():
            return _rearrange(layer, x)
        case _:
            assert_never(layer)


def _rearrange(layer: Flatten | Reshape | Gather, x: _Enclosed) -> _Enclosed:
    return replace(x, value=layer.apply(x.value), error=layer.apply(x.error))


def _affine(layer: Linear, x: _Enclosed) -> _Enclosed:
    """W x + b: the error of x through |W|, and gamma_n (|W| |x| + |b|) for n = terms + 1 roundings, in any order."""
    power, exponent = _exponent(layer.weight), x.exponent + _exponent(layer.weight)
    if layer.bias.any() and _exponent(layer.bias) > exponent:
        x, exponent = _moved(x, exponent - _exponent(layer.bias)), _exponent(layer.bias)
    scaled = replace(layer, weight=np.ldexp(layer.weight, -power), bias=np.ldexp(layer.bias, -exponent))
    n_terms = layer.weight[0].size + 4
    rounding = gamma(n_terms)
    magnitude = replace(scaled, weight=np.abs(scaled.weight), bias=rounding * np.abs(scaled.bias))
    error = magnitude.apply(x.error + rounding * np.abs(x.value)) * (1 + 2 * gamma(n_terms + 4))
    return _enclosed(scaled.apply(x.value), error + _TINY, exponent)


def _add(layer: Sum, inputs: tuple[_Enclosed, ...]) -> _Enclosed:
    """offset + sum_i f_i x_i: errors of x_i through |f_i|, and gamma_n (|offset| + sum_i |f_i| |x_i|)."""
    powers = [_exponent(factor) for factor in layer.factors]
    exponent = max(power + x.exponent for power, x in zip(powers, inputs, strict=True))
    if layer.offset.any():
        exponent = max(exponent, _exponent(layer.offset))
    n_terms = len(inputs) + 4
    value = np.ldexp(layer.offset, -exponent)
    size, error = np.abs(value), np.zeros(())
    for factor, power, x in zip(layer.factors, powers, inputs, strict=True):
        scaled, x = np.ldexp(factor, -power), _moved(x, x.exponent + power - exponent)
        value = value + scaled * x.value
        size, error = size + np.abs(scaled * x.value), error + np.abs(scaled) * x.error
    error = (error + gamma(n_terms) * size) * (1 + 2 * gamma(n_terms + 4))
    return _enclosed(value, error + _TINY, exponent)


def _exponent(array: Array) -> int:
    """Of the power of two above the largest element."""
    return int(np.frexp(np.abs(array).max(initial=0.0))[1])


def _unscaled(layer: Activation, z: _Enclosed) -> _Enclosed:
    """With exponent zero where the activation sees the size of its input."""
    return _in_units(z) if not layer.row.homogeneous else z


def _in_units(z: _Enclosed) -> _Enclosed:
    """With exponent zero."""
    return replace(_moved(z, z.exponent), exponent=0)


def _activate(layer: Activation, z: _Enclosed) -> _Enclosed:
    value = layer.apply(z.value)
    low, high = layer.slopes
    steep = along_channels(np.maximum(np.abs(low), np.abs(high)), z.value.ndim - 1)
    if layer.row.exact:
        library = 2 * UNIT * np.abs(value) if layer.kind == "leaky_relu" else 0.0
    else:
        library = _LIBRARY * (np.abs(value) + steep * np.abs(z.value))
    # exp of a very negative argument may round to zero or overflow: _TINY, and the relative error else
    error = (steep * z.error + library) * (1 + 4 * UNIT)
    return _enclosed(value, error if layer.row.exact and layer.kind != "leaky_relu" else error + _TINY, z.exponent)


def _scale(t: _Enclosed, smallest: Array, largest: Array) -> _Enclosed:
    """slope * t for any slope between: midpoint and radius, and the roundings of both and of the product."""
    middle, radius = (smallest + largest) / 2, (largest - smallest) / 2
    size = np.abs(t.value) + t.error
    error = np.abs(middle) * t.error + radius * size + 4 * UNIT * np.abs(middle) * size
    exact = (radius == 0) & (np.abs(middle) <= 1) & (middle == np.round(middle))
    error = np.where(exact, np.abs(middle) * t.error, error * (1 + 16 * UNIT) + _TINY)
    return _enclosed(middle * t.value, error, t.exponent)


def _pool(layer: MaxPool, values: _Enclosed, tangents: _Enclosed) -> tuple[_Enclosed, _Enclosed]:
    """Maxima, and tangents between those of all inputs of a window that may be its maximum."""
    below, above = (
        layer.windows(values.value - values.error, -np.inf),
        layer.windows(values.value + values.error, -np.inf),
    )
    candidate = np.nextafter(above, np.inf) >= np.nextafter(below, -np.inf).max(axis=(-2, -1), keepdims=True)
    low = np.where(candidate, layer.windows(tangents.value - tangents.error, np.inf), np.inf).min(axis=(-2, -1))
    high = np.where(candidate, layer.windows(tangents.value + tangents.error, -np.inf), -np.inf).max(axis=(-2, -1))
    return _maxima(layer, values), _between(low, high, tangents.exponent)


def _maxima(layer: MaxPool, x: _Enclosed) -> _Enclosed:
    error = layer.windows(x.error, 0.0).max(axis=(-2, -1))
    return _enclosed(layer.apply(x.value), error, x.exponent)


def _sort(layer: Sort, values: _Enclosed, tangents: _Enclosed) -> tuple[_Enclosed, _Enclosed]:
    """Sorted values, and tangents between those of all entries that may be the one of their rank."""
    axis = layer.axis + 1
    below, above = np.nextafter(values.value - values.error, -np.inf), np.nextafter(values.value + values.error, np.inf)
    least, most = np.sort(below, axis), np.sort(above, axis)  # of each rank
    low, high = np.empty_like(values.value), np.empty_like(values.value)
    smallest, largest = tangents.value - tangents.error, tangents.value + tangents.error
    for rank in range(values.value.shape[axis]):
        here = (*[slice(None)] * axis, slice(rank, rank + 1))
        candidate = (above >= least[here]) & (below <= most[here])
        low[here] = np.where(candidate, smallest, np.inf).min(axis=axis, keepdims=True)
        high[here] = np.where(candidate, largest, -np.inf).max(axis=axis, keepdims=True)
    return _sorted(layer, values), _between(low, high, tangents.exponent)


def _sorted(layer: Sort, x: _Enclosed) -> _Enclosed:
    """No entry of a sorted vector moves further than the entry that moved most."""
    error = np.broadcast_to(x.error.max(axis=layer.axis + 1, keepdims=True), x.error.shape)
    return _enclosed(layer.apply(x.value), error, x.exponent)


def _softmax(layer: Softmax, values: _Enclosed, tangents: _Enclosed) -> tuple[_Enclosed, _Enclosed]:
    """p_i (t_i - sum_j p_j t_j), and what is in brackets for the logarithm."""
    axis = layer.axis + 1
    p = _in_units(_probabilities(replace(layer, log=False), values))
    size = np.abs(tangents.value) + tangents.error
    rounding = 4 * gamma(tangents.value.shape[axis] + 8)
    mean = (p.value * tangents.value).sum(axis=axis, keepdims=True)
    off = ((p.value + p.error) * (tangents.error + rounding * size) + p.error * size).sum(axis=axis, keepdims=True)
    bracket = tangents.value - mean
    error = (tangents.error + off * (1 + rounding) + rounding * (size + np.abs(mean))) + _TINY
    if layer.log:
        return _probabilities(layer, values), _enclosed(bracket, error, tangents.exponent)
    slope = (p.value + p.error) * (error + rounding * np.abs(bracket)) + p.error * np.abs(bracket)
    scaled = _enclosed(p.value * bracket, slope * (1 + rounding) + _TINY, tangents.exponent)
    return p, scaled


def _probabilities(layer: Softmax, x: _Enclosed) -> _Enclosed:
    """An entry of p moves by at most 2 p_i (1 - p_i) <= 1/2 of how far the entries do, one of log p by 2 (1 - p_i)."""
    x, axis = _in_units(x), layer.axis + 1
    n = x.value.shape[axis]
    value = layer.apply(x.value)
    steepest = 2.0 if layer.log else 0.5
    library = (_LIBRARY + gamma(n + 8)) * (4 + math.log(n) + (np.abs(value) if layer.log else 0.0))
    error = steepest * x.error.max(axis=axis, keepdims=True) + library
    return _enclosed(value, error * (1 + 4 * UNIT) + _TINY)


def _between(low: Array, high: Array, exponent: int) -> _Enclosed:
    """Anything from low to high."""
    middle = (low + high) / 2
    radius = (high - low) / 2 * (1 + 8 * UNIT) + 4 * UNIT * np.maximum(np.abs(low), np.abs(high)) + _TINY
    return _enclosed(middle, radius, exponent)
