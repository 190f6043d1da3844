"""Convolutions on the torus: small matrices, one a frequency, whose largest norm bounds the layer.

An unpadded convolution on n pixels is a set of rows of the circular one on any N >= max(n, kernel). Zero padding adds
pixels that are zero: one gap of max(top, bottom) zeros serves both ends of the torus, so N = n + max(top, bottom) is
enough, and padding beyond kernel - 1 only adds zero outputs. With stride s (N a multiple of s) the outputs of frequency
w see the s aliases of w, side by side and divided by sqrt(s). Sedghi, Gupta & Long 2019 (arXiv 1805.10408) is the case
without padding and stride.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from certlip.base.rounding import UNIT, gamma
from certlip.network import Array, Conv, Pair, Shape
from certlip.network.chain import SMALLEST

Spectrum = NDArray[np.complex128]

CHUNK = 2**17
"""Entries of the spectrum held at once by `chunks`: they fit the cache of one core."""


def size(layer: Conv, shape: Shape) -> Pair:
    """Rows and columns of the smallest torus that carries the layer on inputs of (channels, rows, columns)."""
    sides = []
    for n, extent, before, after, stride in zip(
        shape[1:], layer.kernel_extent, layer.padding[::2], layer.padding[1::2], layer.stride, strict=True
    ):
        # windows that do not overlap do not see the size of the torus
        side = extent if stride >= extent else max(n + min(max(before, after), extent - 1), extent)
        sides.append(-(-side // stride) * stride)
    return sides[0], sides[1]


def chunks(layer: Conv, torus: Pair) -> Iterator[tuple[Array, Array]]:
    """Real and imaginary parts of the layer's matrices on a torus, about `CHUNK` entries at a time.

    (n_frequencies * groups, c_out / groups, strides * c_in / groups), of one of each pair of conjugate frequencies: the
    other has the same norm.
    """
    c_out, group_in, k_h, k_w = layer.weight.shape
    s_h, s_w = layer.stride
    n_aliases, group_out = s_h * s_w, c_out // layer.groups
    taps = np.ascontiguousarray(layer.weight.reshape(c_out * group_in, k_h * k_w).T)
    rows, columns = frequencies((torus[0] // s_h, torus[1] // s_w))
    step = max(1, CHUNK // (taps.shape[1] * n_aliases))
    for first in range(0, len(rows), step):
        row_frequencies = rows[first : first + step, None] + torus[0] // s_h * np.arange(s_h)
        column_frequencies = columns[first : first + step, None] + torus[1] // s_w * np.arange(s_w)
        row_phase = _phases(row_frequencies, np.arange(k_h) * layer.dilation[0], torus[0])
        column_phase = _phases(column_frequencies, np.arange(k_w) * layer.dilation[1], torus[1])
        # frequency f, aliases a and b, taps u and v
        phases = np.einsum("fau,fbv->fabuv", row_phase, column_phase).reshape(-1, k_h * k_w) / math.sqrt(n_aliases)
        yield (
            _by_group(phases.real @ taps, n_aliases, layer.groups, group_out),
            _by_group(phases.imag @ taps, n_aliases, layer.groups, group_out),
        )


def rounding_error(layer: Conv) -> float:
    """A bound on the spectral norm of the error of each matrix of `chunks`."""
    c_out, group_in, k_h, k_w = layer.weight.shape
    total = np.abs(layer.weight).sum(axis=(2, 3)).reshape(layer.groups, c_out // layer.groups, group_in)
    # each phase is off by at most 32 u, a product of two by 80 u with its scaling; real and imaginary sums are real
    # inner products of k_h k_w terms (Higham, Accuracy and Stability, 3.1); the s aliases share the factor 1 / sqrt(s)
    relative = 2 * (80 * UNIT + gamma(k_h * k_w + 8))
    largest = float(total.max(initial=0.0)) or 1.0  # squares of the quotients do not overflow
    rounding = 1.01 * relative * largest * float(np.sqrt(((total / largest) ** 2).sum(axis=(1, 2)).max()))
    return rounding + 4 * layer.weight.size * math.prod(layer.stride) * SMALLEST


def frequencies(side: Pair) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of one of each pair of conjugate frequencies (r, c) and (-r, -c) of a torus."""
    rows, columns = (i.ravel() for i in np.indices((side[0], side[1] // 2 + 1)))
    own_mirror = (columns == 0) | (2 * columns == side[1])
    wanted = ~own_mirror | (2 * rows <= side[0])
    return rows[wanted], columns[wanted]


def _phases(frequencies: NDArray[np.int64], taps: NDArray[np.int64], side: int) -> Spectrum:
    """exp(-2 pi i frequency tap / side), the product reduced modulo the side in integers."""
    return np.exp(-2j * np.pi * ((frequencies[..., None] * taps) % side) / side)


def _by_group(products: Array, n_aliases: int, groups: int, group_out: int) -> Array:
    """(frequencies * aliases, c_out * group_in) -> (frequencies * groups, group_out, aliases * group_in)."""
    apart = products.reshape(-1, n_aliases, groups, group_out, products.shape[1] // (groups * group_out))
    together = np.moveaxis(apart, 1, 3)
    return np.ascontiguousarray(together).reshape(-1, group_out, n_aliases * together.shape[-1])
