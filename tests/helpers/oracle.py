"""Slow truth by definition, for tests: loops, enumeration and rational arithmetic. It imports no code that bounds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from certlip.network import Activation, Array, Conv, Dense, Flatten, Layer, MaxPool, Network, Shape

PIECEWISE_LINEAR = ("relu", "leaky_relu", "abs", "identity")

Rational = list[list[Fraction]]
Pattern = tuple[tuple[float, ...], ...]
"""One slope a neuron, for each activation layer of a network in order."""


def dense_matrix(layer: Layer, shape: Shape) -> Array:
    """The linear part of a convolution, dense or flatten layer, (n_out, n_in), one entry at a time."""
    if isinstance(layer, Dense):
        return np.array(layer.weight)
    if isinstance(layer, Flatten):
        return np.eye(math.prod(shape))
    assert isinstance(layer, Conv)
    c_in, height, width = shape
    top, bottom, left, right = layer.padding
    k_h, k_w = layer.weight.shape[2:]
    c_out = layer.weight.shape[0]
    row_starts = range(-top, height + bottom - layer.dilation[0] * (k_h - 1), layer.stride[0])
    column_starts = range(-left, width + right - layer.dilation[1] * (k_w - 1), layer.stride[1])
    matrix = np.zeros((c_out, len(row_starts), len(column_starts), c_in, height, width))
    for o, (i, row), (j, column) in itertools.product(range(c_out), enumerate(row_starts), enumerate(column_starts)):
        group = o // (c_out // layer.groups)
        for c, u, v in itertools.product(range(c_in // layer.groups), range(k_h), range(k_w)):
            y, x = row + u * layer.dilation[0], column + v * layer.dilation[1]
            if 0 <= y < height and 0 <= x < width:
                matrix[o, i, j, group * (c_in // layer.groups) + c, y, x] += layer.weight[o, c, u, v]
    return matrix.reshape(c_out * len(row_starts) * len(column_starts), -1)


def forward(network: Network, x: Array) -> Array:
    """Output of the network at one input of its input shape."""
    for layer, shape, output_shape in zip(network.layers, network.shapes, network.shapes[1:], strict=False):
        match layer:
            case Activation():
                x = np.array([activate(*pair) for pair in zip(neurons(layer, shape), x.ravel().tolist(), strict=True)])
            case MaxPool():
                x = _pool(layer, x.reshape(shape), output_shape)
            case Conv():
                bias = np.repeat(layer.bias, output_shape[1] * output_shape[2])
                x = dense_matrix(layer, shape) @ x.ravel() + bias
            case Dense():
                x = layer.weight @ x.ravel() + layer.bias
        x = x.reshape(output_shape)
    return x


def neurons(layer: Activation, shape: Shape) -> list[Activation]:
    """The activation of each neuron of a map, its negative slope a number."""
    slope = layer.negative_slope
    if isinstance(slope, np.ndarray):
        return [replace(layer, negative_slope=s) for s in slope.tolist() for _ in range(math.prod(shape[1:]))]
    return [layer] * math.prod(shape)


def activate(layer: Activation, y: float) -> float:
    """The activation at one number."""
    match layer.kind:
        case "relu":
            return max(y, 0.0)
        case "leaky_relu":
            return y if y > 0 else layer.negative_slope * y
        case "abs":
            return abs(y)
        case "tanh":
            return math.tanh(y)
        case "sigmoid":
            return 1 / (1 + math.exp(-y)) if y > -700 else 0.0
        case "identity":
            return y
    raise ValueError(layer.kind)


def _pool(layer: MaxPool, x: Array, output_shape: Shape) -> Array:
    output = np.full(output_shape, -np.inf)
    for c, i, j, u, v in itertools.product(*map(range, output_shape), *map(range, layer.kernel)):
        y, z = i * layer.stride[0] + u - layer.padding[0], j * layer.stride[1] + v - layer.padding[1]
        if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
            output[c, i, j] = max(output[c, i, j], x[c, y, z])
    return output


def sampled_quotient(network: Network, seed: int, n: int = 50) -> float:
    """Largest difference quotient |f(x) - f(y)| / |x - y| over random pairs near and far: at most the constant."""
    rng = np.random.default_rng(seed)
    largest = 0.0
    for _ in range(n):
        x = rng.standard_normal(network.input_shape) * 10.0 ** rng.uniform(-2, 2)
        y = x + rng.standard_normal(network.input_shape) * 10.0 ** rng.uniform(-3, 1)
        largest = max(largest, float(np.linalg.norm(forward(network, x) - forward(network, y)) / np.linalg.norm(x - y)))
    return largest


def largest_pattern_norm(network: Network) -> float:
    """Largest Jacobian norm when each neuron may take its smallest or largest slope, whether or not a point does.

    At or above the constant, for any activation: the norm is convex in each slope. 2^hidden patterns.
    """
    return max(float(np.linalg.norm(jacobian(network, p), 2)) for p in _all_patterns(network))


def attained_norm(network: Network) -> float:
    """The Lipschitz constant of a piecewise linear network: largest Jacobian norm over its linear regions.

    In floating point, with a relative error of about 1e-14; `is_at_least` decides without any.
    """
    return max(float(np.linalg.norm(jacobian(network, p), 2)) for p in regions(network))


def is_at_least(bound: float, network: Network) -> bool:
    """Whether the bound is at or above the Lipschitz constant of a piecewise linear network, in rational arithmetic.

    Regions within 1e-9 of the largest norm are decided exactly.
    """
    found = [(float(np.linalg.norm(jacobian(network, p), 2)), p) for p in regions(network)]
    largest = max(norm for norm, _ in found)
    decisive = [p for norm, p in found if norm >= largest * (1 - 1e-9)][:3]
    return bound >= largest * (1 - 1e-9) and all(dominates(bound, exact_jacobian(network, p)) for p in decisive)


def dominates(bound: float, matrix: Rational) -> bool:
    """Whether bound >= spectral norm, exactly: bound^2 I - A'A is positive semidefinite in rational arithmetic."""
    if bound < 0:
        return False
    tall = len(matrix) >= len(matrix[0])
    vectors = list(zip(*matrix, strict=True)) if tall else [tuple(row) for row in matrix]
    square = Fraction(bound) ** 2
    gram = [[-sum(map(_times, a, b), Fraction(0)) for b in vectors] for a in vectors]
    for k in range(len(gram)):
        gram[k][k] += square
    return _is_semidefinite(gram)


def rational(matrix: Array) -> Rational:
    """The same matrix as exact fractions."""
    return [[Fraction(float(value)) for value in row] for row in matrix]


def _times(a: Fraction, b: Fraction) -> Fraction:
    return a * b


def _is_semidefinite(gram: Rational) -> bool:
    n = len(gram)
    for k in range(n):
        pivot = gram[k][k]
        if pivot < 0 or (pivot == 0 and any(gram[k][k + 1 :])):
            return False
        for i in range(k + 1, n):
            if gram[i][k]:
                factor = gram[i][k] / pivot
                gram[i] = [x - factor * y for x, y in zip(gram[i], gram[k], strict=True)]
    return True


def jacobian(network: Network, pattern: Pattern) -> Array:
    """Jacobian (n_out, n_in) where the neurons have the slopes of `pattern`."""
    product = np.eye(math.prod(network.input_shape))
    slopes = iter(pattern)
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, Activation):
            product = np.array(next(slopes))[:, None] * product
        else:
            product = dense_matrix(layer, shape) @ product
    return product


def exact_jacobian(network: Network, pattern: Pattern) -> Rational:
    """`jacobian` without rounding."""
    product = rational(np.eye(math.prod(network.input_shape)))
    slopes = iter(pattern)
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, Activation):
            product = [[Fraction(s) * x for x in row] for s, row in zip(next(slopes), product, strict=True)]
        elif not isinstance(layer, Flatten):
            product = exact_product(rational(dense_matrix(layer, shape)), product)
    return product


def exact_product(a: Rational, b: Rational) -> Rational:
    """Product of two matrices of fractions."""
    columns = list(zip(*b, strict=True))
    return [[sum((x * y for x, y in zip(row, c, strict=True) if x and y), Fraction(0)) for c in columns] for row in a]


def _all_patterns(network: Network) -> Iterator[Pattern]:
    choices = []
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, Activation):
            choices.append(list(itertools.product(*(sorted({*n.slopes}) for n in neurons(layer, shape)))))
        elif isinstance(layer, MaxPool):
            raise ValueError(f"{layer.name}: patterns of max pooling are not enumerated")
    return itertools.product(*choices)


def regions(network: Network) -> list[Pattern]:
    """Patterns of the network's full-dimensional linear regions, by linear programs (feasible by at least 1e-7)."""
    n = math.prod(network.input_shape)
    partial: list[tuple[list[tuple[float, ...]], Array, Array, list[Array], list[float]]]
    partial = [([], np.eye(n), np.zeros(n), [], [])]
    for layer, shape, output_shape in zip(network.layers, network.shapes, network.shapes[1:], strict=False):
        following = []
        for pattern, a, b, normals, offsets in partial:
            if isinstance(layer, Activation):
                if layer.kind not in PIECEWISE_LINEAR:
                    raise ValueError(f"{layer.name}: {layer.kind} is not piecewise linear")
                for signs, ns, os in _cells(a, b, normals, offsets):
                    slopes = tuple(activate(n, s) * s for n, s in zip(neurons(layer, shape), signs, strict=True))
                    d = np.array(slopes)
                    following.append(([*pattern, slopes], d[:, None] * a, d * b, ns, os))
            else:
                matrix = dense_matrix(layer, shape)
                bias = np.zeros(len(matrix)) if isinstance(layer, Flatten) else _flat_bias(layer, output_shape)
                following.append((pattern, matrix @ a, matrix @ b + bias, normals, offsets))
        partial = following
    return [tuple(pattern) for pattern, *_ in partial]


def _flat_bias(layer: Layer, output_shape: Shape) -> Array:
    assert isinstance(layer, Conv | Dense)
    return np.repeat(layer.bias, math.prod(output_shape[1:]))


def _cells(
    a: Array, b: Array, normals: list[Array], offsets: list[float]
) -> Iterator[tuple[tuple[float, ...], list[Array], list[float]]]:
    """Sign vectors of a x + b that some open set of points with normals x + offsets > 0 takes."""
    if not len(a):
        yield (), normals, offsets
        return
    for signs, ns, os in _cells(a[:-1], b[:-1], normals, offsets):
        largest = float(np.abs(a[-1]).max()) or 1.0
        size = largest * float(np.linalg.norm(a[-1] / largest))  # squares may overflow
        if size <= 1e-12 * max(1.0, abs(float(b[-1]))) or size < 1e-200:
            yield (*signs, 1.0 if b[-1] > 0 else -1.0), ns, os
            continue
        for sign in (1.0, -1.0):
            more = [*ns, sign * a[-1] / size], [*os, sign * float(b[-1]) / size]
            if _is_open(*more):
                yield (*signs, sign), *more


def _is_open(normals: list[Array], offsets: list[float]) -> bool:
    """Whether normals x + offsets >= t has a solution with t > 0."""
    n = len(normals[0])
    scale = max(1.0, *map(abs, offsets))
    result = linprog(
        c=[0.0] * n + [-1.0],
        A_ub=np.column_stack([-np.array(normals), np.ones(len(normals))]),
        b_ub=np.array(offsets) / scale,
        bounds=[(-1e3, 1e3)] * n + [(None, 1.0)],
        method="highs",
    )
    return result.status == 0 and -result.fun > 1e-7
