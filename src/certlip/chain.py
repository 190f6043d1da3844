"""A stretch of layers as dense matrices with elementwise activations between: x -> W_L phi_L(... phi_1(W_0 x))."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from certlip import operators
from certlip.errors import LimitExceeded, UnsupportedLayer
from certlip.network import Activation, Array, Conv, Dense, Flatten, Network
from certlip.rounding import gamma, multiply_up

Slopes = tuple[float, float]

MAX_ENTRIES = 10**8
"""A dense matrix with more entries than this is never allocated."""


@dataclass(frozen=True, eq=False)
class Chain:
    """x -> W_L phi_L(... phi_1(W_0 x)), biases left out: they do not change a Lipschitz constant.

    weights: W_0..W_L, W_i of shape (n_{i+1}, n_i).
    radii: for each W_i the largest elementwise distance to the exact matrix, None where W_i is exact.
    slopes: (smallest, largest) slope of phi_1..phi_L.
    scale: Lipschitz constant of activations before W_0 and after W_L, rounded up; the bound of the stretch is
        ``scale`` times the bound of the chain.
    """

    weights: tuple[Array, ...]
    radii: tuple[Array | None, ...]
    slopes: tuple[Slopes, ...]
    scale: float = 1.0

    @classmethod
    def of(cls, network: Network) -> Chain:
        """The chain of a network whose layers are convolutions, dense layers and activations.

        Raises UnsupportedLayer by layer name for anything else, LimitExceeded where a dense matrix of a layer would
        exceed `MAX_ENTRIES`.
        """
        weights: list[Array] = []
        radii: list[Array | None] = []
        slopes: list[Slopes] = []
        pending: Slopes | None = None
        scale = 1.0
        for layer, shape, output_shape in zip(network.layers, network.shapes, network.shapes[1:], strict=False):
            match layer:
                case Flatten():
                    pass
                case Activation():
                    pending = _compose(pending, layer.slopes)
                case Conv() | Dense():
                    n_in, n_out = math.prod(shape), math.prod(output_shape)
                    if n_in * n_out > MAX_ENTRIES:
                        raise LimitExceeded(
                            "memory_limit",
                            f"{layer.name}: a dense {n_out} x {n_in} matrix exceeds {MAX_ENTRIES:.0e} entries",
                        )
                    weight = operators.matrix(layer, shape).toarray()
                    if pending is None and weights:
                        weights[-1], radii[-1] = _multiply(weight, weights[-1], radii[-1])
                        continue
                    if pending is not None and weights:
                        slopes.append(pending)
                    elif pending is not None:
                        scale = multiply_up([scale, _steepest(pending)])
                    pending = None
                    weights.append(weight)
                    radii.append(None)
                case _:
                    raise UnsupportedLayer(f"{layer.name}: no semidefinite bound for {type(layer).__name__}")
        if pending is not None:
            scale = multiply_up([scale, _steepest(pending)])
        if not weights:
            n = math.prod(network.input_shape)
            weights, radii = [np.eye(n)], [None]
        return cls(tuple(weights), tuple(radii), tuple(slopes), scale)


def relu_chain(weights: Sequence[Array]) -> Chain:
    """The chain of given matrices W_0..W_L with ReLU between."""
    arrays = tuple(np.asarray(w, dtype=np.float64) for w in weights)
    return Chain(arrays, (None,) * len(arrays), ((0.0, 1.0),) * (len(arrays) - 1))


def _compose(first: Slopes | None, second: Slopes) -> Slopes | None:
    """Slope interval of one elementwise function after another; None for the identity."""
    if first is None:
        return None if second == (1.0, 1.0) else second
    ends = [a * b for a in first for b in second]
    if {*map(abs, first)} <= {0.0, 1.0} or {*map(abs, second)} <= {0.0, 1.0}:
        return min(ends), max(ends)  # exact
    return math.nextafter(min(ends), -math.inf), math.nextafter(max(ends), math.inf)


def _steepest(slopes: Slopes) -> float:
    return max(abs(slopes[0]), abs(slopes[1]))


def _multiply(after: Array, before: Array, radius: Array | None) -> tuple[Array, Array]:
    """after @ before, and a bound on its elementwise error (Higham, Accuracy and Stability, 3.13)."""
    n = before.shape[0]
    error = np.abs(before) * gamma(n + 2)
    if radius is not None:
        error = error + radius * (1 + gamma(n + 2))
    return after @ before, (np.abs(after) @ error) * (1 + 2 * gamma(n + 2))
