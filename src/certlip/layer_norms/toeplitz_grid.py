"""Sampled trigonometric polynomials of the Toeplitz matrix (Araujo et al. 2021, arXiv 2006.08391, theorem 3).

||conv||^2 <= sum_i sup_w sum_j |f_ij(w)|^2 with f_ij(w) = sum_uv K_ijuv exp(i (u, v) w), for any image. The supremum is
taken over a grid of N x N frequencies. Each sum over j is a real trigonometric polynomial p >= 0 of degree n = k - 1 in
each variable; near its largest value p(w) >= p_max cos(n (w - w_max)) (M. Riesz 1914), and some grid point is within
pi / N of it: p_max <= grid maximum / cos(pi n / N), once for each variable. The paper uses a wider factor.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from certlip.base.record import Kind
from certlip.base.rounding import add_up, gamma, sqrt_up, up
from certlip.layer_norms import LayerNormInfo
from certlip.network import Conv, Shape
from certlip.proof import torus

INFO = LayerNormInfo("Toeplitz grid", Kind.CERTIFIED, "Araujo et al. 2021, arXiv 2006.08391")

_POINTS_PER_TAP = 10


def norm(layer: Conv, shape: Shape) -> float:
    """The bound with ten grid points a kernel tap in each direction, rounded up; the largest over groups."""
    c_out, group_in, k_h, k_w = layer.weight.shape
    plain = replace(layer, stride=(1, 1), dilation=(1, 1))
    grid = _POINTS_PER_TAP * k_h, _POINTS_PER_TAP * k_w
    largest = np.zeros((layer.groups, c_out // layer.groups))
    for real, imaginary in torus.chunks(plain, grid):
        rows = np.einsum("foi,foi->fo", real, real) + np.einsum("foi,foi->fo", imaginary, imaginary)
        largest = np.maximum(largest, rows.reshape(-1, *largest.shape).max(axis=0))
    error = torus.rounding_error(plain)
    # each row norm is off by its rounding, and by at most the error of the matrix it is a row of
    rounded = (np.sqrt(largest) * (1 + gamma(2 * group_in + 8)) + error) ** 2 * (1 + gamma(8))
    square = max(add_up(map(float, group)) for group in rounded)
    factor = math.prod(math.cos(math.pi * (k - 1) / n) for k, n in zip((k_h, k_w), grid, strict=True))
    return sqrt_up(up(up(square) / (factor * (1 - gamma(64)))))
