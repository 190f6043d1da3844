"""Linear layers: convolutions, dense layers, and matrices along one axis.

Each has ``weight`` and ``bias``, ``matrix(shape)``, its linear part as a sparse (n_out, n_in) matrix on flattened,
row-major maps of an input shape, where every stored entry is a weight and no arithmetic is done on it, and
``apply(values)``, its value on a batch (batch, *shape).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view

from certlip.base.files import whole
from certlip.network.layers.base import Array, Pair, Shape, expect, to_float64, to_integers


@dataclass(frozen=True, eq=False)
class Conv:
    """2-D convolution (cross-correlation) with zero padding.

    weight: (c_out, c_in / groups, k_h, k_w); bias: (c_out,); stride, dilation: (rows, columns);
    padding: (top, bottom, left, right).

    Raises DataError where these do not fit together.
    """

    name: str
    weight: Array
    bias: Array
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        to_float64(self, 4)
        to_integers(self, "stride", 2, least=1)
        to_integers(self, "padding", 4, least=0)
        to_integers(self, "dilation", 2, least=1)
        c_out = self.weight.shape[0]
        fits = type(self.groups) is int and self.groups >= 1 and c_out % self.groups == 0
        expect(fits, self.name, f"groups {self.groups} do not divide its {c_out} output channels")

    @property
    def kernel_extent(self) -> Pair:
        """Rows and columns that the dilated kernel spans."""
        k_h, k_w = self.weight.shape[2:]
        return self.dilation[0] * (k_h - 1) + 1, self.dilation[1] * (k_w - 1) + 1

    @property
    def ungrouped(self) -> Array:
        """The kernel without groups: (c_out, c_in, k_h, k_w)."""
        if self.groups == 1:
            return self.weight
        c_out, group_in, k_h, k_w = self.weight.shape
        group_out = c_out // self.groups
        kernel = np.zeros((c_out, group_in * self.groups, k_h, k_w))
        for g in range(self.groups):
            rows = slice(g * group_out, (g + 1) * group_out)
            kernel[rows, g * group_in : (g + 1) * group_in] = self.weight[rows]
        return kernel

    def output_shape(self, shape: Shape) -> Shape:
        expect(len(shape) == 3, self.name, f"a convolution needs a (channels, rows, columns) input, not {shape}")
        c_in, height, width = shape
        expect(
            c_in == self.weight.shape[1] * self.groups,
            self.name,
            f"expects {self.weight.shape[1] * self.groups} channels, gets {c_in}",
        )
        top, bottom, left, right = self.padding
        rows = (height + top + bottom - self.kernel_extent[0]) // self.stride[0] + 1
        columns = (width + left + right - self.kernel_extent[1]) // self.stride[1] + 1
        expect(rows > 0 and columns > 0, self.name, f"the kernel is larger than its padded input {shape}")
        return self.weight.shape[0], rows, columns

    def apply(self, values: Array) -> Array:
        top, bottom, left, right = self.padding
        padded = np.pad(values, [(0, 0), (0, 0), (top, bottom), (left, right)])
        windows = sliding_window_view(padded, self.kernel_extent, axis=(2, 3))
        windows = windows[:, :, :: self.stride[0], :: self.stride[1], :: self.dilation[0], :: self.dilation[1]]
        grouped_windows = np.split(windows, self.groups, axis=1)
        grouped_weights = np.split(self.weight, self.groups, axis=0)
        outputs = [
            np.einsum("bcijuv,ocuv->boij", x, w, optimize=True)
            for x, w in zip(grouped_windows, grouped_weights, strict=True)
        ]
        return np.concatenate(outputs, axis=1) + self.bias[:, None, None]

    def matrix(self, shape: Shape) -> scipy.sparse.csr_array:
        c_in, height, width = shape
        c_out, rows, columns = self.output_shape(shape)
        group_out, group_in = c_out // self.groups, c_in // self.groups
        # one entry a (output channel, input channel of its group, kernel row and column, output row and column)
        o, i, u, v, r, c = np.ix_(
            np.arange(c_out),
            np.arange(group_in),
            *map(np.arange, self.weight.shape[2:]),
            np.arange(rows),
            np.arange(columns),
        )
        y = r * self.stride[0] + u * self.dilation[0] - self.padding[0]
        x = c * self.stride[1] + v * self.dilation[1] - self.padding[2]
        source = ((o // group_out * group_in + i) * height + y) * width + x
        target = (o * rows + r) * columns + c
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        source, target, inside, values = np.broadcast_arrays(source, target, inside, self.weight[..., None, None])
        entries = (values[inside], (target[inside], source[inside]))
        return scipy.sparse.csr_array(entries, shape=(c_out * rows * columns, c_in * height * width))


@dataclass(frozen=True, eq=False)
class Dense:
    """Fully connected layer; weight: (n_out, n_in), bias: (n_out,). Raises DataError where these do not fit."""

    name: str
    weight: Array
    bias: Array

    def __post_init__(self) -> None:
        to_float64(self, 2)

    def output_shape(self, shape: Shape) -> Shape:
        n_in = self.weight.shape[1]
        expect(shape == (n_in,), self.name, f"expects a flat input of {n_in}, gets {shape}")
        return (self.weight.shape[0],)

    def apply(self, values: Array) -> Array:
        return values @ self.weight.T + self.bias

    def matrix(self, shape: Shape) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array(self.weight)


@dataclass(frozen=True, eq=False)
class Along:
    """The same matrix along one axis, wherever one is on the others: resizing, means, dense layers of each pixel.

    axis: of one example, 0 for channels; weight: (n_out, n_in), n_in the length of the axis; bias: (n_out,). Its
    constant is the norm of the weight. Raises DataError where these do not fit.
    """

    name: str
    axis: int
    weight: Array
    bias: Array

    def __post_init__(self) -> None:
        to_float64(self, 2)

    def output_shape(self, shape: Shape) -> Shape:
        axis, (n_out, n_in) = whole(self.axis), self.weight.shape
        fits = 0 <= axis < len(shape) and shape[axis] == n_in
        expect(fits, self.name, f"expects {n_in} entries along axis {axis} of {shape}")
        return *shape[:axis], n_out, *shape[axis + 1 :]

    def apply(self, values: Array) -> Array:
        moved = np.moveaxis(values, self.axis + 1, -1) @ self.weight.T + self.bias
        return np.moveaxis(moved, -1, self.axis + 1)

    def matrix(self, shape: Shape) -> scipy.sparse.csr_array:
        before, after = (scipy.sparse.eye_array(math.prod(s)) for s in (shape[: self.axis], shape[self.axis + 1 :]))
        return scipy.sparse.csr_array(scipy.sparse.kron(before, scipy.sparse.kron(self.weight, after)))
