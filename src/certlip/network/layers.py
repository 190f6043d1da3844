"""The kinds of layers: what each is made of, and the shape that it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.base.errors import DataError, UnsupportedLayer
from certlip.base.files import whole
from certlip.network.slopes import Slopes, slopes_of

Array = NDArray[np.float64]
Shape = tuple[int, ...]
Pair = tuple[int, int]


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
        _to_float64(self, 4)
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


@dataclass(frozen=True, eq=False)
class Dense:
    """Fully connected layer; weight: (n_out, n_in), bias: (n_out,). Raises DataError where these do not fit."""

    name: str
    weight: Array
    bias: Array

    def __post_init__(self) -> None:
        _to_float64(self, 2)

    def output_shape(self, shape: Shape) -> Shape:
        n_in = self.weight.shape[1]
        expect(shape == (n_in,), self.name, f"expects a flat input of {n_in}, gets {shape}")
        return (self.weight.shape[0],)


@dataclass(frozen=True, eq=False)
class Activation:
    """Elementwise function whose difference quotients all lie in [slope_min, slope_max].

    kind: a key of `ACTIVATIONS`; negative_slope: read by leaky_relu only, a number or an array (channels,) with one a
    channel of a map (channels, rows, columns) or one an entry of a flat value, as PReLU has. Raises DataError if it is
    not finite.
    """

    name: str
    kind: str
    negative_slope: float | Array = 0.01

    def __post_init__(self) -> None:
        slope = self.negative_slope
        if isinstance(slope, np.ndarray):
            slope = float64(self.name, "negative_slope", slope)
            object.__setattr__(self, "negative_slope", slope)
            fits = slope.ndim == 1 and slope.size > 0 and bool(np.isfinite(slope).all())
            expect(fits, self.name, f"a negative_slope of shape {slope.shape} is no row of finite numbers")
            return
        fits = not isinstance(slope, bool) and math.isfinite(slope)
        expect(fits, self.name, f"negative_slope {slope} is not a finite number")

    @property
    def slopes(self) -> Slopes:
        """(smallest, largest) slope of the function; an array (channels,) each where channels differ."""
        if self.kind != "leaky_relu":
            return ACTIVATIONS[self.kind]
        if isinstance(self.negative_slope, np.ndarray):
            return slopes_of(np.minimum(self.negative_slope, 1.0), np.maximum(self.negative_slope, 1.0))
        return min(self.negative_slope, 1.0), max(self.negative_slope, 1.0)

    def output_shape(self, shape: Shape) -> Shape:
        if self.kind not in ACTIVATIONS:
            raise UnsupportedLayer(f"{self.name}: no bound for activation {self.kind}")
        if isinstance(self.negative_slope, np.ndarray):
            n = len(self.negative_slope)
            expect(shape[:1] == (n,), self.name, f"{n} negative slopes do not fit the channels of {shape}")
        return shape


ACTIVATIONS: dict[str, tuple[float, float]] = {
    "relu": (0.0, 1.0),
    "leaky_relu": (0.0, 1.0),
    "tanh": (0.0, 1.0),
    "sigmoid": (0.0, 0.25),
    "abs": (-1.0, 1.0),
    "identity": (1.0, 1.0),
}
"""Activation kind -> (smallest, largest) slope; leaky_relu's depend on its negative_slope."""


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Maximum over windows; kernel, stride: (rows, columns); padding: (rows, columns), never a maximum itself.

    Raises DataError for padding beyond half the kernel: a window might hold nothing else.
    """

    name: str
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def __post_init__(self) -> None:
        to_integers(self, "kernel", 2, least=1)
        to_integers(self, "stride", 2, least=1)
        to_integers(self, "padding", 2, least=0)
        fits = all(2 * p <= k for p, k in zip(self.padding, self.kernel, strict=True))
        expect(fits, self.name, f"padding {self.padding} is more than half the kernel {self.kernel}")

    def output_shape(self, shape: Shape) -> Shape:
        expect(len(shape) == 3, self.name, f"max pooling needs a (channels, rows, columns) input, not {shape}")
        sides = [
            (n + 2 * p - k) // s + 1
            for n, p, k, s in zip(shape[1:], self.padding, self.kernel, self.stride, strict=True)
        ]
        expect(min(sides) > 0, self.name, f"the window is larger than its input {shape}")
        return shape[0], sides[0], sides[1]


@dataclass(frozen=True, eq=False)
class Flatten:
    """(channels, rows, columns) -> (channels * rows * columns,), row-major."""

    name: str

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


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


MOST_ENTRIES = 2**31
"""Of a map, and most that any option of a layer may say: no machine holds more."""

Join = Sum | Concat
JOINS = (Sum, Concat)
"""Layers that take several values."""

Layer = Conv | Dense | Activation | MaxPool | Flatten | Join
LINEAR = (Conv, Dense)


def float64(name: str, field: str, array: Any) -> Array:
    """The array in float64, exactly: error bounds elsewhere are those of float64 arithmetic."""
    try:
        return np.asarray(array).astype(np.float64, casting="safe", copy=False)
    except TypeError as error:
        raise DataError(f"{name}: the {field} is not real float64 numbers; convert it first") from error


def _to_float64(layer: Conv | Dense, n_axes: int) -> None:
    for field in ("weight", "bias"):
        object.__setattr__(layer, field, float64(layer.name, field, getattr(layer, field)))
    weight, bias = layer.weight, layer.bias
    expect(weight.ndim == n_axes and weight.size > 0, layer.name, f"a weight of shape {weight.shape} does not fit")
    expect(bias.shape == weight.shape[:1], layer.name, f"a bias of shape {bias.shape} does not fit its weight")


def _a_channel(array: Array, shape: Shape) -> Array | None:
    one_each = array.size == 1 or (array.ndim == len(shape) and array.shape[0] == array.size)
    return np.broadcast_to(array.ravel(), shape[0]).copy() if one_each else None


def _broadcasts(array: Array, shape: Shape) -> bool:
    """Whether the array has entries, and broadcasting it to the shape gives no other shape."""
    pairs = zip(array.shape[::-1], shape[::-1], strict=False)
    return array.ndim <= len(shape) and all(n in (1, m) for n, m in pairs)


def to_integers(owner: Any, field: str, count: int, least: int) -> None:
    """Make a field a tuple of so many integers; raises DataError naming the owner."""
    given = getattr(owner, field)
    try:
        values = tuple(map(whole, given))
    except TypeError:
        values = ()
    name = getattr(owner, "name", "network")
    fits = len(values) == count and all(least <= value <= MOST_ENTRIES for value in values)
    expect(fits, name, f"{field} cannot be {given}")
    object.__setattr__(owner, field, values)


def expect(condition: bool, name: str, complaint: str) -> None:
    """Raise DataError naming what the complaint is about, unless the condition holds."""
    if not condition:
        raise DataError(f"{name}: {complaint}")
