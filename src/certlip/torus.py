"""Convolutions on the torus: small matrices, one a frequency, whose largest norm bounds the layer.

An unpadded convolution on n pixels is a set of rows of the circular one on any N >= max(n, kernel). Zero padding adds
pixels that are zero: one gap of max(top, bottom) zeros serves both ends of the torus, so N = n + max(top, bottom) is
enough, and padding beyond kernel - 1 only adds zero outputs. With stride s (N a multiple of s) the outputs of frequency
w see the s aliases of w, side by side and divided by sqrt(s). Sedghi, Gupta & Long 2019 (arXiv 1805.10408) is the case
without padding and stride.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certlip.network import Conv, Pair, Shape
from certlip.rounding import UNIT, gamma

Spectrum = NDArray[np.complex128]


def size(layer: Conv, shape: Shape) -> Pair:
    """Rows and columns of the smallest torus that carries the layer on inputs of (channels, rows, columns)."""
    sides = []
    for n, extent, before, after, stride in zip(
        shape[1:], layer.kernel_extent, layer.padding[::2], layer.padding[1::2], layer.stride, strict=True
    ):
        side = max(n + min(max(before, after), extent - 1), extent)
        sides.append(-(-side // stride) * stride)
    return sides[0], sides[1]


def frequency_matrices(layer: Conv, torus: Pair) -> tuple[Spectrum, float]:
    """Matrices (n_frequencies * groups, c_out / groups, c_in / groups * strides) of the layer on a torus.

    Half of the frequencies: the others are complex conjugates, with the same norms. The second value bounds the
    spectral norm of the rounding error of each matrix.
    """
    c_out, group_in, k_h, k_w = layer.weight.shape
    s_h, s_w = layer.stride
    output_side = torus[0] // s_h, torus[1] // s_w
    rows = np.arange(output_side[0])[:, None] + output_side[0] * np.arange(s_h)
    columns = np.arange(output_side[1] // 2 + 1)[:, None] + output_side[1] * np.arange(s_w)
    row_phase = _phases(rows, np.arange(k_h) * layer.dilation[0], torus[0])
    column_phase = _phases(columns, np.arange(k_w) * layer.dilation[1], torus[1])
    # (r, a): frequency and alias of the rows, (c, b) of the columns
    half = np.einsum("oiuv,cbv->oiucb", layer.weight, column_phase, optimize=True)
    spectrum = np.einsum("oiucb,rau->rcoiab", half, row_phase, optimize=True) / np.sqrt(s_h * s_w)
    group_out = c_out // layer.groups
    matrices = spectrum.reshape(-1, layer.groups, group_out, group_in * s_h * s_w)
    total = np.abs(layer.weight).sum(axis=(2, 3)).reshape(layer.groups, group_out, group_in)
    # each phase is off by at most 32 u, each complex product and sum by the usual gamma (Higham, 3.6)
    relative = 64 * UNIT + gamma(8 * (k_h + k_w + 8))
    error = 1.01 * relative * float(np.sqrt((total**2).sum(axis=(1, 2)).max()))
    return matrices.reshape(-1, group_out, group_in * s_h * s_w), error


def _phases(frequencies: NDArray[np.int64], taps: NDArray[np.int64], side: int) -> Spectrum:
    """exp(-2 pi i frequency tap / side), the product reduced modulo the side in integers."""
    return np.exp(-2j * np.pi * ((frequencies[..., None] * taps) % side) / side)
