"""The norm of a convolution on a map of its own size, borders and all, by a banded Cholesky factorisation.

With outputs and inputs in the order (row, column, channel), A'A and AA' have entries near the diagonal alone. Each is
made of few products: of the matrices T_u that kernel row u is from one row of pixels to another. ||A|| <= c where
c^2 I - A'A is positive semidefinite. If the floating-point factorisation of (c^2 - margin) I - G runs to its end, where
G is the computed product, the exact matrix is (S. M. Rump, BIT 46, 2006). The backward error of an entry is at most
gamma_(b+2) times the largest diagonal entry, for a band of b entries below the diagonal, and 2 b + 1 entries of a row
are not zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy

from certlip.base.rounding import UNIT, gamma
from certlip.network import Array, Conv, Shape

WORK = 4e10
"""Multiplications of a factorisation, up to which it is made: one or two seconds."""
ENTRIES = 5e7
"""Of the band, at most."""
ROOMS = (2e-6, 2e-5, 2e-4)
"""Above the computed square of the norm, relatively, until a claim is proved."""
SMALLEST = 2.0**-1000
"""Above all that underflow can hide where the largest weight is near one."""


@dataclass(frozen=True)
class _Side:
    """One of A'A (of inputs) and AA' (of outputs).

    n_lines: rows of pixels; width: numbers in a row of pixels; lag: rows of pixels that an entry is away from the
    diagonal at most; reach: the same within a row, in numbers.
    """

    of_inputs: bool
    n_lines: int
    width: int
    lag: int
    reach: int

    @property
    def band(self) -> int:
        """Entries below the diagonal."""
        return min(self.lag * self.width + self.reach, self.n_lines * self.width - 1)

    @property
    def work(self) -> float:
        return self.n_lines * self.width * float(self.band) ** 2


def _side(layer: Conv, shape: Shape) -> _Side:
    """The cheaper one."""
    sides = []
    for of_inputs, (channels, rows, columns) in ((True, shape), (False, layer.output_shape(shape))):
        steps = (1, 1) if of_inputs else layer.stride
        lag, lag_x = ((k - 1) // s for k, s in zip(layer.kernel_extent, steps, strict=True))
        reach = min((lag_x + 1) * channels, columns * channels) - 1
        sides.append(_Side(of_inputs, rows, columns * channels, min(lag, rows - 1), reach))
    return min(sides, key=lambda side: side.work)


def is_affordable(layer: Conv, shape: Shape) -> bool:
    """Whether a factorisation takes a second or two and may find less than the torus has.

    Windows that neither overlap nor reach into padding meet no border: the norm on the torus is the layer's.
    """
    if not any(layer.padding) and all(s >= k for s, k in zip(layer.stride, layer.kernel_extent, strict=True)):
        return False
    side = _side(layer, shape)
    return side.work <= WORK and side.n_lines * side.width * (side.band + 1) <= ENTRIES


def norm(layer: Conv, shape: Shape) -> float | None:
    """A constant of the layer that `bounds` proves, within about 1e-5 of its norm; None where none is found.

    layer: its largest weight near one.
    """
    side = _side(layer, shape)
    gram = _gram(layer, shape, side)
    order = gram.shape[1]

    def multiply(x: Array) -> Array:
        product: Array = scipy.linalg.blas.dsbmv(side.band, 1.0, gram, x, lower=1)
        return product

    start = np.random.default_rng(0).standard_normal(order)
    operator = scipy.sparse.linalg.LinearOperator((order, order), multiply, dtype=np.float64)
    try:
        (largest,) = scipy.sparse.linalg.eigsh(operator, 1, which="LA", v0=start, tol=1e-7, return_eigenvectors=False)
    except scipy.sparse.linalg.ArpackNoConvergence:
        return None
    for room in ROOMS:
        claim = math.sqrt(max(float(largest), 0.0) * (1 + room))
        if _dominates(claim, gram, _rounding(layer)):
            return claim
    return None


def bounds(claim: float, layer: Conv, shape: Shape) -> bool:
    """Whether the claim is proved to be at or above the norm of the layer, whose largest weight is near one."""
    return claim > 0 and _dominates(claim, _gram(layer, shape, _side(layer, shape)), _rounding(layer))


def _dominates(claim: float, gram: Array, rounding: float) -> bool:
    """gram: lower band, (band + 1, order); rounding: at or above the norm of its error."""
    band, order = gram.shape[0] - 1, gram.shape[1]
    rho = claim * claim * (1 - 4 * UNIT)
    margin = 1.01 * ((2 * band + 1) * gamma(band + 3) * rho + rounding + 8 * UNIT * rho) + order * SMALLEST
    if not (math.isfinite(margin) and rho > margin):
        return False
    shifted = -gram
    shifted[0] += rho - margin
    try:
        scipy.linalg.cholesky_banded(shifted, overwrite_ab=True, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return False
    return True


def _rounding(layer: Conv) -> float:
    """A bound on the norm of the error of `_gram`: each entry has at most so many terms, and |A|'|A| has at most the
    norm that row and column sums say."""
    c_out, group_in, k_h, k_w = layer.weight.shape
    sizes = np.abs(layer.weight).reshape(layer.groups, c_out // layer.groups, group_in, k_h, k_w)
    rows, columns = (float(sizes.sum(axis=axes).max()) for axes in ((2, 3, 4), (1, 3, 4)))
    n_terms = max(c_out // layer.groups, group_in) * k_h * k_w + k_h
    return gamma(n_terms + 4) * rows * columns * 1.01


def _gram(layer: Conv, shape: Shape, side: _Side) -> Array:
    """A'A or AA' without what lies above the diagonal, as a band: entry (i, j) at [i - j, j]."""
    n_taps = layer.weight.shape[2]
    taps = [_from_row_to_row(layer, shape, u) for u in range(n_taps)]
    if not side.of_inputs:
        taps = [tap.T for tap in taps]
    products = {(u, v): taps[u].T @ taps[v] for u in range(n_taps) for v in range(n_taps)}
    band = np.zeros((side.band + 1, side.n_lines * side.width), order="F")
    for here, there, u, v in _meetings(layer, shape, side.of_inputs):
        product = products[u, v]
        for column in range(side.width):
            first, last = max(0, column - side.reach), min(side.width, column + side.reach + 1)
            if here == there:
                first = column
            offset = (here - there) * side.width - column
            band[offset + first : offset + last, there * side.width + column] += product[first:last, column]
    return band


def _meetings(layer: Conv, shape: Shape, of_inputs: bool) -> Iterator[tuple[int, int, int, int]]:
    """Rows of pixels (here >= there) of one side that meet in a row of the other, by kernel rows u and v."""
    n_inputs, n_outputs = shape[1], layer.output_shape(shape)[1]
    touching: dict[int, list[tuple[int, int]]] = {}
    for output in range(n_outputs):
        for u in range(layer.weight.shape[2]):
            row = output * layer.stride[0] + u * layer.dilation[0] - layer.padding[0]
            if 0 <= row < n_inputs:
                meeting, line = (output, row) if of_inputs else (row, output)
                touching.setdefault(meeting, []).append((line, u))
    for lines in touching.values():
        for here, u in lines:
            for there, v in lines:
                if here >= there:
                    yield here, there, u, v


def _from_row_to_row(layer: Conv, shape: Shape, u: int) -> Array:
    """Kernel row u from a row of the input to one of the output, entries in the order (column, channel)."""
    c_in, _, n_in = shape
    row = replace(
        layer,
        weight=np.ascontiguousarray(layer.weight[:, :, u : u + 1]),
        stride=(1, layer.stride[1]),
        padding=(0, 0, *layer.padding[2:]),
        dilation=(1, layer.dilation[1]),
    )
    c_out, _, n_out = row.output_shape((c_in, 1, n_in))
    matrix = row.matrix((c_in, 1, n_in)).toarray().reshape(c_out, n_out, c_in, n_in)
    return np.ascontiguousarray(matrix.transpose(1, 0, 3, 2).reshape(n_out * c_out, n_in * c_in))
