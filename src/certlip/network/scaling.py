"""Powers of two taken out of the weights before anything squares them, and put back into the bound.

Upper bounds live on increments: between two inputs the values of a network differ by dz = D W dx, D diagonal with the
slopes between the two, in the activation's interval. Biases drop out, and a factor of a linear layer is a factor of the
whole, whatever the activations: with each weight divided by 2^e_i, and sum e_i = E,

    bound(network) = 2^E bound(scaled network)

exactly. The scaled layers have norms near one, so that neither a weight of 1e-300 nor two hundred layers under- or
overflow. The e_i come from integers alone: they are the same on every machine, and e_i(2^k W) = e_i(W) + k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from certlip.base.errors import DataError
from certlip.base.rounding import up
from certlip.network import LINEAR, Layer, Linear, Network

DIGITS = 12
"""Bits of the largest weight that the estimate of a layer's norm looks at."""


@dataclass(frozen=True, eq=False)
class Scaled:
    """The network of increments, without biases, each linear layer divided by 2^e; exponents: e of each layer."""

    network: Network
    exponents: tuple[int, ...]


def scale_network(network: Network) -> Scaled:
    """A chain with each linear layer divided by the power of two of `norm_exponent`; any other network by one."""
    exponents = tuple(
        norm_exponent(layer) if network.is_chain and isinstance(layer, LINEAR) else 0 for layer in network.layers
    )
    return Scaled(divide(network, exponents), exponents)


def divide(network: Network, exponents: Sequence[int]) -> Network:
    """The network of increments with each layer's weight divided by 2^e, exactly; exponents: e of each layer.

    Raises DataError where they do not fit the layers, a weight would be rounded, or the network is no chain and they
    are not all zero: branches of a sum would be divided differently.
    """
    if any(exponents) and not network.is_chain:
        raise DataError("only the layers of a chain are divided by powers of two")
    if len(exponents) != len(network.layers):
        raise DataError(f"there are {len(exponents)} exponents for {len(network.layers)} layers")
    layers = tuple(_divide(layer, e) for layer, e in zip(network.layers, exponents, strict=True))
    return Network(layers, network.input_shape, network.sources)


def norm_exponent(layer: Linear) -> int:
    """An e with 2^e near the spectral norm of the layer, or the nearest below that which rounds no weight.

    Near: the geometric mean of a lower and an upper estimate, which for a random matrix of order n is about n^(1/4)/2
    times the norm. Zero for a weight of zeros.
    """
    if not layer.weight.any():
        return 0
    mantissas, exponents = np.frexp(layer.weight[layer.weight != 0])
    largest = int(exponents.max())
    digits = np.rint(np.ldexp(layer.weight, DIGITS - largest)).astype(np.int64)
    grouped = np.abs(digits).reshape(getattr(layer, "groups", 1), -1, layer.weight.shape[1], layer.weight[0, 0].size)
    squares = grouped**2
    lower = max(int(squares.sum(axis=axes).max()) for axes in ((2, 3), (1, 3)))  # an output's row, an input's column
    rows, columns = (int(grouped.sum(axis=axes).max()) for axes in ((2, 3), (1, 3)))
    frobenius = int(squares.sum(axis=(1, 2, 3)).max()) * grouped.shape[3]
    fourth_power = lower * min(frobenius, rows * columns)
    near = (fourth_power.bit_length() + 1) // 4 - DIGITS + largest
    integers = np.ldexp(mantissas, 53).astype(np.int64)
    last_bits = np.frexp((integers & -integers).astype(np.float64))[1] - 1 + exponents - 53
    return min(near, int(last_bits.min()) + 1074)


def multiply_back(value: float, exponents: Sequence[int]) -> float:
    """value times 2^(sum of the exponents), rounded up; infinite beyond the largest double."""
    exponent = _in_range(sum(exponents))
    product = _ldexp(value, exponent)
    return up(product) if math.isfinite(product) and _ldexp(product, -exponent) != value else product


def _divide(layer: Layer, exponent: int) -> Layer:
    if not isinstance(layer, LINEAR):
        if exponent:
            raise DataError(f"{layer.name}: only layers with weights are divided by a power of two")
        return layer
    with np.errstate(over="ignore", under="ignore"):
        weight = np.ldexp(layer.weight, -_in_range(exponent))
        exact = np.isfinite(weight).all() and (np.ldexp(weight, _in_range(exponent)) == layer.weight).all()
    if not exact:
        raise DataError(f"{layer.name}: its weights divided by 2^{exponent} are no doubles")
    return replace(layer, weight=weight, bias=np.zeros_like(layer.bias))


def _in_range(exponent: int) -> int:
    """The exponent, or one that takes every double to zero or infinity as it does."""
    return max(-5000, min(5000, exponent))


def _ldexp(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
