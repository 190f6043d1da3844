"""A stretch of layers as dense matrices with elementwise activations between: x -> W_L phi_L(... phi_1(W_0 x))."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from certlip.base.errors import LimitExceeded, UnsupportedLayer
from certlip.base.rounding import gamma, multiply_up
from certlip.network import (
    Activation,
    Along,
    Array,
    Concat,
    Conv,
    Dense,
    Flatten,
    Gather,
    Linear,
    Maximum,
    MaxPool,
    Network,
    Reshape,
    Shape,
    Softmax,
    Sort,
    Sum,
)
from certlip.network.slopes import Slopes as Slopes
from certlip.network.slopes import are_identity, compose, over_pixels, steepest

LinearGroup = list[tuple[Linear | Gather, Shape]]
"""Linear layers that follow each other, each with its input shape."""

MAX_ENTRIES = 10**8
"""A dense matrix with more entries than this is never allocated."""

SMALLEST = 2.0**-1074
"""The smallest positive double."""


@dataclass(frozen=True, eq=False)
class Chain:
    """x -> W_L phi_L(... phi_1(W_0 x)), biases left out: they do not change a Lipschitz constant.

    weights: W_0..W_L, W_i of shape (n_{i+1}, n_i).
    radii: for each W_i the largest elementwise distance to the exact matrix, None where W_i is exact.
    slopes: (smallest, largest) slope of phi_1..phi_L, an array (n_i,) each where the neurons of a layer differ.
    scale: Lipschitz constant of activations before W_0 and after W_L, rounded up; the bound of the stretch is
        ``scale`` times the bound of the chain.
    """

    weights: tuple[Array, ...]
    radii: tuple[Array | None, ...]
    slopes: tuple[Slopes, ...]
    scale: float = 1.0

    @classmethod
    def of(cls, network: Network) -> Chain:
        """The chain of a network whose layers are linear or activations.

        Raises UnsupportedLayer by layer name for anything else, LimitExceeded where a dense matrix of a layer would
        exceed `MAX_ENTRIES`.
        """
        groups, slopes, scale = linear_groups(network)
        weights: list[Array] = []
        radii: list[Array | None] = []
        for group in groups:
            weight, radius = _dense(*group[0]), None
            for layer, shape in group[1:]:
                weight, radius = multiply(_dense(layer, shape), weight, before_radius=radius)
            weights.append(weight)
            radii.append(radius)
        if not weights:
            weights, radii = [np.eye(math.prod(network.input_shape))], [None]
        return cls(tuple(weights), tuple(radii), tuple(slopes), scale)


def linear_groups(network: Network) -> tuple[list[LinearGroup], list[Slopes], float]:
    """Linear layers with nothing nonlinear between, in order; the slopes between the groups; the scale of a `Chain`.

    Raises UnsupportedLayer by name for a layer that is neither linear nor elementwise, and for a network that is no
    chain.
    """
    if not network.is_chain:
        raise UnsupportedLayer("the network is no chain of layers")
    groups: list[LinearGroup] = []
    slopes: list[Slopes] = []
    pending: Slopes | None = None
    scale = 1.0
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        match layer:
            case Flatten() | Reshape():
                pass
            case Activation():
                slope = over_pixels(layer.slopes, math.prod(shape[1:]))
                if pending is not None:
                    pending = compose(pending, slope)
                elif not are_identity(slope):
                    pending = slope
            case Conv() | Dense() | Along() | Gather():
                if pending is None and groups:
                    groups[-1].append((layer, shape))
                    continue
                if pending is not None and groups:
                    slopes.append(pending)
                elif pending is not None:
                    scale = multiply_up([scale, steepest(pending)])
                pending = None
                groups.append([(layer, shape)])
            case MaxPool() | Sort() | Softmax():
                what = f"{type(layer).__name__} in a chain of matrices; cut the network around it, as `dcp` does"
                raise UnsupportedLayer(f"{layer.name}: no bound for {what}")
            case Sum() | Concat() | Maximum():
                raise UnsupportedLayer(f"{layer.name}: no bound for {type(layer).__name__} in a chain of matrices")
            case _:
                assert_never(layer)
    if pending is not None:
        scale = multiply_up([scale, steepest(pending)])
    return groups, slopes, scale


def _dense(layer: Linear | Gather, shape: Shape) -> Array:
    n_in, n_out = math.prod(shape), math.prod(layer.output_shape(shape))
    if n_in * n_out > MAX_ENTRIES:
        raise LimitExceeded(
            "memory_limit", f"{layer.name}: a dense {n_out} x {n_in} matrix exceeds {MAX_ENTRIES:.0e} entries"
        )
    return layer.matrix(shape).toarray()


def relu_chain(weights: Sequence[Array]) -> Chain:
    """The chain of given matrices W_0..W_L with ReLU between."""
    arrays = tuple(np.asarray(w, dtype=np.float64) for w in weights)
    return Chain(arrays, (None,) * len(arrays), ((0.0, 1.0),) * (len(arrays) - 1))


def multiply(
    after: Array, before: Array, after_radius: Array | None = None, before_radius: Array | None = None
) -> tuple[Array, Array]:
    """after @ before, and a bound on its elementwise distance to the exact product.

    The radii bound the distances of the factors to the exact ones, None where they are exact. The rounding of the
    product is that of Higham, Accuracy and Stability, 3.13; the smallest double covers underflow.
    """
    n = before.shape[0]
    error = np.abs(before) * gamma(n + 2) + SMALLEST
    if before_radius is not None:
        error = error + before_radius * (1 + gamma(n + 2))
    radius = np.abs(after) @ error
    if after_radius is not None:
        radius = radius + after_radius @ (np.abs(before) + error)
    return after @ before, radius * (1 + 4 * gamma(n + 2)) + 4 * n * SMALLEST


def scale(matrix: Array, factors: Array, radius: Array | None = None) -> tuple[Array, Array]:
    """matrix * factors, which broadcast, and a bound on its elementwise distance to the exact product.

    radius: bounds the distance of the matrix to the exact one, None where it is exact.
    """
    scaled = matrix * factors
    error = np.abs(scaled) * gamma(2) + SMALLEST
    if radius is not None:
        error = error + radius * np.abs(factors)
    return scaled, error * (1 + gamma(4)) + SMALLEST


def frobenius_norm(matrix: Array) -> float:
    """An upper bound on the Frobenius norm, scaled so that nothing under- or overflows."""
    largest = float(np.abs(matrix).max(initial=0.0))
    if not largest:
        return 0.0
    return multiply_up([largest, float(np.linalg.norm(matrix / largest)) * (1 + 2 * gamma(matrix.size + 8))])
