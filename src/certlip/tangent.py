"""A rigorous lower bound at a point: the directional derivative there, with the rounding of every step accounted for.

Every layer has one-sided directional derivatives, so f'(x; v) exists and |f'(x; v)| <= L |v|. Values and tangents are
computed in float64 together with elementwise bounds on their errors (Higham, Accuracy and Stability, 3.1 and 3.5).
Where the error leaves open on which side of a kink an input lies, the slope is only enclosed between the activation's
smallest and largest; that can lower the result, never falsify it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from certlip import operators
from certlip.network import Activation, Array, Conv, Dense, Layer, MaxPool, Network
from certlip.rounding import UNIT, down, gamma, up

_TINY = 2.0**-1000
"""Above everything that underflow can add to one element."""

_LIBRARY = 64 * UNIT
"""Relative error granted to the exponential and the hyperbolic tangent of the mathematics library."""

_SLOPE_ERROR = 4 * _LIBRARY
"""Absolute error of the computed derivative of tanh (1 - tanh^2) or of the sigmoid s (1 - s)."""


@dataclass(frozen=True, eq=False)
class _Enclosed:
    """An array known up to an elementwise error: the exact one lies in value +- error. Shape (1, *shape)."""

    value: Array
    error: Array


def lower_at(network: Network, point: Array, direction: Array) -> float:
    """|f'(point; direction)| / |direction| of the exact network, rounded down: at or below its Lipschitz constant.

    point, direction: float64 arrays of `network.input_shape`, taken as exact. Zero where nothing can be proved
    (a zero direction, a point that is not finite, overflow).
    """
    if not np.isfinite(point).all():
        return 0.0
    values = _exact(point)
    tangents = _exact(direction)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for layer in network.layers:
            values, tangents = _step(layer, values, tangents)
        return _ratio(tangents, np.asarray(direction, dtype=np.float64))


def _exact(array: Array) -> _Enclosed:
    value = np.asarray(array, dtype=np.float64)[None]
    return _Enclosed(value, np.zeros_like(value))


def _ratio(tangents: _Enclosed, direction: Array) -> float:
    least = np.maximum(np.abs(tangents.value) - tangents.error, 0.0)
    length = float(np.abs(direction).max(initial=0.0))
    largest = float(least.max(initial=0.0))
    if not (np.isfinite(least).all() and np.isfinite(length) and length > 0 and largest > 0):
        return 0.0
    # divided by the largest element, so that squares neither overflow nor underflow to nothing
    attained = float(np.linalg.norm(least.ravel() / largest)) * (1 - gamma(least.size + 8)) * largest
    spent = float(np.linalg.norm(direction.ravel() / length)) * (1 + gamma(direction.size + 8)) * length
    result = down(down(attained) / up(spent))
    return result if math.isfinite(result) and spent > 2.0**-900 and attained > 2.0**-900 else 0.0


def _step(layer: Layer, values: _Enclosed, tangents: _Enclosed) -> tuple[_Enclosed, _Enclosed]:
    match layer:
        case Conv() | Dense():
            linear = replace(layer, bias=np.zeros_like(layer.bias))
            return _affine(layer, values), _affine(linear, tangents)
        case Activation():
            return _activate(layer, values), _scale(tangents, *_slopes(layer, values))
        case MaxPool():
            return _pool(layer, values, tangents)
        case _:
            moved = [operators.apply(layer, a) for x in (values, tangents) for a in (x.value, x.error)]
            return _Enclosed(moved[0], moved[1]), _Enclosed(moved[2], moved[3])


def _affine(layer: Conv | Dense, x: _Enclosed) -> _Enclosed:
    """W x + b: the error of x through |W|, and gamma_n (|W| |x| + |b|) for n = terms + 1 roundings, in any order."""
    n_terms = layer.weight[0].size + 4
    rounding = gamma(n_terms)
    magnitude = replace(layer, weight=np.abs(layer.weight), bias=rounding * np.abs(layer.bias))
    error = operators.apply(magnitude, x.error + rounding * np.abs(x.value)) * (1 + 2 * gamma(n_terms + 4))
    return _Enclosed(operators.apply(layer, x.value), error + _TINY)


def _activate(layer: Activation, z: _Enclosed) -> _Enclosed:
    value = operators.apply(layer, z.value)
    steepest = max(map(abs, layer.slopes))
    library = {"tanh": _LIBRARY, "sigmoid": _LIBRARY, "leaky_relu": 2 * UNIT}.get(layer.kind, 0.0)
    # exp of a very negative argument may round to zero or overflow: _TINY, and the relative error else
    error = (steepest * z.error + library * np.abs(value)) * (1 + 4 * UNIT)
    return _Enclosed(value, error + _TINY if library else error)


def _slopes(layer: Activation, z: _Enclosed) -> tuple[Array, Array]:
    """Elementwise smallest and largest slope over z.value +- z.error, kinks included."""
    low, high = layer.slopes
    below, above = np.nextafter(z.value - z.error, -np.inf), np.nextafter(z.value + z.error, np.inf)
    match layer.kind:
        case "relu" | "leaky_relu" | "abs":
            left = {"relu": 0.0, "abs": -1.0}.get(layer.kind, layer.negative_slope)
            smallest = np.where(below > 0, 1.0, np.where(above < 0, left, low))
            largest = np.where(below > 0, 1.0, np.where(above < 0, left, high))
        case "tanh" | "sigmoid":
            ends = np.stack([_smooth_slope(layer.kind, below), _smooth_slope(layer.kind, above)])
            smallest = ends.min(axis=0) - _SLOPE_ERROR
            largest = np.where((below <= 0) & (above >= 0), high, ends.max(axis=0) + _SLOPE_ERROR)
        case _:
            smallest, largest = np.full_like(z.value, low), np.full_like(z.value, high)
    return np.clip(smallest, low, high), np.clip(largest, low, high)


def _smooth_slope(kind: str, z: Array) -> Array:
    """Derivative of tanh or the sigmoid, which falls away from zero on both sides, off by less than `_SLOPE_ERROR`."""
    if kind == "tanh":
        return 1 - (t := np.tanh(z)) * t
    return (s := 1 / (1 + np.exp(-z))) * (1 - s)


def _scale(t: _Enclosed, smallest: Array, largest: Array) -> _Enclosed:
    """slope * t for any slope between: midpoint and radius, and the roundings of both."""
    middle, radius = (smallest + largest) / 2, (largest - smallest) / 2
    value = middle * t.value
    error = np.abs(middle) * t.error + radius * (np.abs(t.value) + t.error) + 4 * UNIT * np.abs(t.value)
    exact = (radius == 0) & (np.abs(middle) <= 1) & (middle == np.round(middle))
    return _Enclosed(value, np.where(exact, np.abs(middle) * t.error, error * (1 + 16 * UNIT) + _TINY))


def _pool(layer: MaxPool, values: _Enclosed, tangents: _Enclosed) -> tuple[_Enclosed, _Enclosed]:
    """Maxima, and tangents between those of all inputs of a window that may be its maximum."""
    below, above = (
        _windows(layer, values.value - values.error, -np.inf),
        _windows(layer, values.value + values.error, -np.inf),
    )
    candidate = np.nextafter(above, np.inf) >= np.nextafter(below, -np.inf).max(axis=(-2, -1), keepdims=True)
    low = np.where(candidate, _windows(layer, tangents.value - tangents.error, np.inf), np.inf).min(axis=(-2, -1))
    high = np.where(candidate, _windows(layer, tangents.value + tangents.error, -np.inf), -np.inf).max(axis=(-2, -1))
    error = _windows(layer, values.error, 0.0).max(axis=(-2, -1))
    middle = (low + high) / 2
    radius = (high - low) / 2 * (1 + 8 * UNIT) + 4 * UNIT * np.maximum(np.abs(low), np.abs(high)) + _TINY
    return _Enclosed(operators.apply(layer, values.value), error), _Enclosed(middle, radius)


def _windows(layer: MaxPool, array: Array, padding: float) -> Array:
    """(1, channels, rows, columns, k_h, k_w): the window of each output."""
    pad = [(0, 0), (0, 0), (layer.padding[0],) * 2, (layer.padding[1],) * 2]
    padded = np.pad(array, pad, constant_values=padding)
    return sliding_window_view(padded, layer.kernel, axis=(2, 3))[:, :, :: layer.stride[0], :: layer.stride[1]]
