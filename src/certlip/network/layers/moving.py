"""Layers that move, choose or join entries of maps, and do no arithmetic on them beyond a `Sum`.

Each has ``apply(*values)``, its value on a batch of each source: (batch, *shape).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view

from certlip.base.files import whole
from certlip.network.layers.base import MOST_ENTRIES, Array, Pair, Shape, expect, float64, to_integers


@dataclass(frozen=True, eq=False)
class Flatten:
    """(channels, rows, columns) -> (channels * rows * columns,), row-major."""

    name: str

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def apply(self, values: Array) -> Array:
        return values.reshape(len(values), -1)


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same entries, row-major, in another shape (without the batch axis)."""

    name: str
    shape: Shape

    def __post_init__(self) -> None:
        to_integers(self, "shape", len(self.shape), least=1)

    def output_shape(self, shape: Shape) -> Shape:
        fits = math.prod(shape) == math.prod(self.shape)
        expect(fits, self.name, f"{math.prod(self.shape)} entries of {self.shape} do not fit those of {shape}")
        return self.shape

    def apply(self, values: Array) -> Array:
        return values.reshape(len(values), *self.shape)


@dataclass(frozen=True, eq=False)
class Gather:
    """Each output is one input, or zero: transposing, slicing, flipping, shuffling, padding of any mode.

    index: of the shape of the output; the position of the input in the flattened input, -1 for zero. Its constant is
    the root of the largest number of copies of an input. Raises DataError for anything but whole numbers from -1 on.
    """

    name: str
    index: Array

    def __post_init__(self) -> None:
        index = float64(self.name, "index", self.index)
        object.__setattr__(self, "index", index)
        whole_numbers = index.size > 0 and bool(((index == np.floor(index)) & (index < MOST_ENTRIES)).all())
        expect(whole_numbers and index.min() >= -1, self.name, "the index is not positions of inputs")

    @property
    def positions(self) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
        """The index, flattened."""
        return self.index.ravel().astype(np.intp)

    @property
    def most_copies(self) -> int:
        """The largest number of outputs that are the same input."""
        positions = self.positions
        return int(np.bincount(positions[positions >= 0], minlength=1).max())

    def output_shape(self, shape: Shape) -> Shape:
        n_inputs = math.prod(shape)
        expect(self.index.max() < n_inputs, self.name, f"the index leaves its {n_inputs} inputs")
        return self.index.shape

    def apply(self, values: Array) -> Array:
        with_zero = np.concatenate([values.reshape(len(values), -1), np.zeros((len(values), 1))], axis=1)
        return with_zero[:, self.positions].reshape(len(values), *self.index.shape)

    def matrix(self, shape: Shape) -> scipy.sparse.csr_array:
        """The sparse (n_out, n_in) matrix on flattened, row-major maps of the input shape."""
        positions = self.positions
        (chosen,) = np.nonzero(positions >= 0)
        entries = (np.ones(len(chosen)), (chosen, positions[chosen]))
        return scipy.sparse.csr_array(entries, shape=(len(positions), math.prod(shape)))


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Maximum over windows; kernel, stride: (rows, columns); padding: (rows, columns), never a maximum itself; ceil:
    whether windows that leave the map at its end count.

    Raises DataError for padding beyond half the kernel: a window might hold nothing else.
    """

    name: str
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil: bool = False

    def __post_init__(self) -> None:
        expect(isinstance(self.ceil, bool), self.name, f"ceil cannot be {self.ceil}")
        to_integers(self, "kernel", 2, least=1)
        to_integers(self, "stride", 2, least=1)
        to_integers(self, "padding", 2, least=0)
        fits = all(2 * p <= k for p, k in zip(self.padding, self.kernel, strict=True))
        expect(fits, self.name, f"padding {self.padding} is more than half the kernel {self.kernel}")

    def output_shape(self, shape: Shape) -> Shape:
        expect(len(shape) == 3, self.name, f"max pooling needs a (channels, rows, columns) input, not {shape}")
        sides = [self._n_windows(n, axis) for axis, n in enumerate(shape[1:])]
        expect(min(sides) > 0, self.name, f"the window is larger than its input {shape}")
        return shape[0], sides[0], sides[1]

    def _n_windows(self, n: int, axis: int) -> int:
        """Along an axis of n pixels; none begins in the padding at its end."""
        rest, stride = n + 2 * self.padding[axis] - self.kernel[axis], self.stride[axis]
        n_windows = rest // stride + 1
        begins_inside = n_windows * stride < n + self.padding[axis]
        return n_windows + (self.ceil and rest % stride > 0 and n_windows > 0 and begins_inside)

    def windows(self, values: Array, padding: float = -np.inf) -> Array:
        """(batch, channels, rows, columns, k_h, k_w): the window of each output."""
        shape = self.output_shape(values.shape[1:])
        ends = [
            max(p, (m - 1) * s + k - n - p)
            for m, s, k, n, p in zip(shape[1:], self.stride, self.kernel, values.shape[2:], self.padding, strict=True)
        ]
        pad = [(0, 0), (0, 0), *zip(self.padding, ends, strict=True)]
        padded = np.pad(values, pad, constant_values=padding)
        return sliding_window_view(padded, self.kernel, axis=(2, 3))[:, :, :: self.stride[0], :: self.stride[1]]

    def apply(self, values: Array) -> Array:
        maxima: Array = self.windows(values).max(axis=(-2, -1))
        return maxima


@dataclass(frozen=True)
class Sort:
    """Entries along an axis of one example in ascending order: sorting of groups, and what maxima are chosen from.

    Its constant is one: sorting two vectors brings them no further apart (the rearrangement inequality).
    """

    name: str
    axis: int

    def output_shape(self, shape: Shape) -> Shape:
        expect(0 <= whole(self.axis) < len(shape), self.name, f"there is no axis {self.axis} of {shape} to sort")
        return shape

    def apply(self, values: Array) -> Array:
        return np.sort(values, axis=self.axis + 1)


@dataclass(frozen=True, eq=False)
class Sum:
    """offset + sum_i factor_i * x_i, entry by entry: residual sums, differences, scalings.

    factors: one array a source; they and the offset broadcast to the shape that all sources have. Raises DataError
    where they are not real numbers.
    """

    name: str
    factors: tuple[Array, ...]
    offset: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(float64(self.name, "factor", factor) for factor in self.factors))
        object.__setattr__(self, "offset", float64(self.name, "offset", self.offset))

    def output_shape(self, *shapes: Shape) -> Shape:
        fits = len(self.factors) == len(shapes) and len({*shapes}) == 1
        fits = fits and all(_broadcasts(array, shapes[0]) for array in (*self.factors, self.offset))
        expect(fits, self.name, f"a sum of {len(self.factors)} terms does not fit {shapes}")
        return shapes[0]

    def apply(self, *values: Array) -> Array:
        return self.offset + sum(factor * value for factor, value in zip(self.factors, values, strict=True))

    def per_channel(self, shape: Shape) -> tuple[list[Array], Array] | None:
        """Factors and offset with one number a channel of values of this shape; None where they differ within one."""
        *factors, offset = (_a_channel(array, shape) for array in (*self.factors, self.offset))
        if offset is None or any(factor is None for factor in factors):
            return None
        return [factor for factor in factors if factor is not None], offset


@dataclass(frozen=True)
class Concat:
    """Sources side by side along an axis of one example: 0 for channels."""

    name: str
    axis: int

    def output_shape(self, *shapes: Shape) -> Shape:
        axis, first = whole(self.axis), shapes[0]
        fits = 0 <= axis < len(first) and len({(shape[:axis], shape[axis + 1 :]) for shape in shapes}) == 1
        expect(fits, self.name, f"a concatenation along axis {axis} does not fit {shapes}")
        return *first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :]

    def apply(self, *values: Array) -> Array:
        return np.concatenate(values, axis=self.axis + 1)


@dataclass(frozen=True)
class Maximum:
    """The largest of its sources entry by entry, the smallest where `least` is set.

    |max(a, b) - max(c, d)| is at most the larger of |a - c| and |b - d|: constants of sources add up in squares.
    """

    name: str
    least: bool = False

    def __post_init__(self) -> None:
        expect(isinstance(self.least, bool), self.name, f"least cannot be {self.least}")

    def output_shape(self, *shapes: Shape) -> Shape:
        expect(len({*shapes}) == 1, self.name, f"a maximum does not fit {shapes}")
        return shapes[0]

    def apply(self, *values: Array) -> Array:
        reduce = np.minimum.reduce if self.least else np.maximum.reduce
        largest: Array = reduce(values)
        return largest


def _a_channel(array: Array, shape: Shape) -> Array | None:
    one_each = array.size == 1 or (array.ndim == len(shape) and array.shape[0] == array.size)
    return np.broadcast_to(array.ravel(), shape[0]).copy() if one_each else None


def _broadcasts(array: Array, shape: Shape) -> bool:
    """Whether the array has entries, and broadcasting it to the shape gives no other shape."""
    pairs = zip(array.shape[::-1], shape[::-1], strict=False)
    return array.ndim <= len(shape) and all(n in (1, m) for n, m in pairs)
