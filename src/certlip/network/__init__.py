"""The network whose Lipschitz constant is bounded: a chain of layers in NumPy float64, without torch.

A `Network` is the mathematical object of every bound here: its float64 weights are taken as exact. Batch normalisation,
average pooling and dropout do not appear; `certlip.pytorch.export` writes them as convolutions or drops them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from certlip.base.errors import DataError, UnsupportedLayer
from certlip.base.files import floats, read_npz, text, whole, write_npz

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
        _to_integers(self, "stride", 2, least=1)
        _to_integers(self, "padding", 4, least=0)
        _to_integers(self, "dilation", 2, least=1)
        c_out = self.weight.shape[0]
        fits = type(self.groups) is int and self.groups >= 1 and c_out % self.groups == 0
        _expect(fits, self.name, f"groups {self.groups} do not divide its {c_out} output channels")

    @property
    def kernel_extent(self) -> Pair:
        """Rows and columns that the dilated kernel spans."""
        k_h, k_w = self.weight.shape[2:]
        return self.dilation[0] * (k_h - 1) + 1, self.dilation[1] * (k_w - 1) + 1

    def output_shape(self, shape: Shape) -> Shape:
        _expect(len(shape) == 3, self.name, f"a convolution needs a (channels, rows, columns) input, not {shape}")
        c_in, height, width = shape
        _expect(
            c_in == self.weight.shape[1] * self.groups,
            self.name,
            f"expects {self.weight.shape[1] * self.groups} channels, gets {c_in}",
        )
        top, bottom, left, right = self.padding
        rows = (height + top + bottom - self.kernel_extent[0]) // self.stride[0] + 1
        columns = (width + left + right - self.kernel_extent[1]) // self.stride[1] + 1
        _expect(rows > 0 and columns > 0, self.name, f"the kernel is larger than its padded input {shape}")
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
        _expect(shape == (n_in,), self.name, f"expects a flat input of {n_in}, gets {shape}")
        return (self.weight.shape[0],)


@dataclass(frozen=True, eq=False)
class Activation:
    """Elementwise function whose difference quotients all lie in [slope_min, slope_max].

    kind: a key of `ACTIVATIONS`; negative_slope is read by leaky_relu only. Raises DataError if that is not finite.
    """

    name: str
    kind: str
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        fits = not isinstance(self.negative_slope, bool) and math.isfinite(self.negative_slope)
        _expect(fits, self.name, f"negative_slope {self.negative_slope} is not a finite number")

    @property
    def slopes(self) -> tuple[float, float]:
        """(smallest, largest) slope of the function."""
        if self.kind == "leaky_relu":
            return min(self.negative_slope, 1.0), max(self.negative_slope, 1.0)
        return ACTIVATIONS[self.kind]

    def output_shape(self, shape: Shape) -> Shape:
        if self.kind not in ACTIVATIONS:
            raise UnsupportedLayer(f"{self.name}: no bound for activation {self.kind}")
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
        _to_integers(self, "kernel", 2, least=1)
        _to_integers(self, "stride", 2, least=1)
        _to_integers(self, "padding", 2, least=0)
        fits = all(2 * p <= k for p, k in zip(self.padding, self.kernel, strict=True))
        _expect(fits, self.name, f"padding {self.padding} is more than half the kernel {self.kernel}")

    def output_shape(self, shape: Shape) -> Shape:
        _expect(len(shape) == 3, self.name, f"max pooling needs a (channels, rows, columns) input, not {shape}")
        sides = [
            (n + 2 * p - k) // s + 1
            for n, p, k, s in zip(shape[1:], self.padding, self.kernel, self.stride, strict=True)
        ]
        _expect(min(sides) > 0, self.name, f"the window is larger than its input {shape}")
        return shape[0], sides[0], sides[1]


@dataclass(frozen=True, eq=False)
class Flatten:
    """(channels, rows, columns) -> (channels * rows * columns,), row-major."""

    name: str

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


MOST_ENTRIES = 2**31
"""Of a map, and most that any option of a layer may say: no machine holds more."""

Layer = Conv | Dense | Activation | MaxPool | Flatten
LINEAR = (Conv, Dense)


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers.

    input_shape: (channels, rows, columns) or (n,), without a batch axis.

    Raises DataError where shapes do not fit or a weight is not finite, naming the layer.
    """

    layers: tuple[Layer, ...]
    input_shape: Shape

    _KINDS: ClassVar[dict[str, type]] = {c.__name__: c for c in (Conv, Dense, Activation, MaxPool, Flatten)}

    def __post_init__(self) -> None:
        _to_integers(self, "input_shape", len(self.input_shape), least=1)
        for layer in self.layers:
            if isinstance(layer, LINEAR) and not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
                raise DataError(f"{layer.name}: the weights hold NaN or infinite values; train or export them again")
        _ = self.shapes

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape before each layer, and after the last: n_layers + 1 entries."""
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        largest = max(shapes, key=math.prod)
        _expect(math.prod(largest) <= MOST_ENTRIES, "network", f"a map of shape {largest} is too large")
        return tuple(shapes)

    def segment(self, first: int, last: int) -> Network:
        """Layers [first, last) as a network of their own."""
        return Network(self.layers[first:last], self.shapes[first])

    @cached_property
    def sha256(self) -> str:
        """Hash of layer kinds, options, weights and input shape; the same on every machine."""
        return digest(*self.to_arrays())

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """A JSON-ready header and the weight arrays, keyed ``0.weight``, ``0.bias``, ..."""
        arrays: dict[str, Array] = {}
        described = []
        for index, layer in enumerate(self.layers):
            entry: dict[str, Any] = {"layer": type(layer).__name__}
            for field in fields(layer):
                value = getattr(layer, field.name)
                if isinstance(value, np.ndarray):
                    arrays[f"{index}.{field.name}"] = value
                else:
                    entry[field.name] = value
            described.append(entry)
        return {"input_shape": list(self.input_shape), "layers": described}, arrays

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, Array]) -> Network:
        """Inverse of `to_arrays`; raises DataError on anything malformed."""
        try:
            layers = []
            for index, described in enumerate(header["layers"]):
                entry = {k: tuple(v) if isinstance(v, list) else v for k, v in described.items()}
                kind = cls._KINDS[str(entry.pop("layer"))]
                for field in ("weight", "bias"):
                    if f"{index}.{field}" in arrays:
                        entry[field] = floats(arrays[f"{index}.{field}"])
                texts = {f.name: text(entry[f.name]) for f in fields(kind) if f.type == "str"}
                layers.append(kind(**entry | texts))
            return cls(tuple(layers), tuple(header["input_shape"]))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise DataError(f"not a network description: {error!r}; export the network again") from error

    def save(self, path: str | Path) -> None:
        """Write a .npz file (arrays and a JSON header), readable without pickle."""
        header, arrays = self.to_arrays()
        header["sha256"] = self.sha256
        write_npz(path, header, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Read a file written by `save` and check its hash.

        Raises NoBound if `certlip.base.files.write_refusal` wrote the file, DataError if it is missing or corrupt.
        """
        header, arrays = read_npz(path)
        network = cls.from_arrays(header, arrays)
        if network.sha256 != header.get("sha256"):
            raise DataError(f"{path}: the weights do not match their sha256; delete the file and export it again")
        return network


def digest(header: dict[str, Any], arrays: Mapping[str, Array]) -> str:
    """SHA-256 of a JSON-ready header and float64 arrays; the same on every machine."""
    hashed = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for key in sorted(arrays):
        hashed.update(f"{key} {arrays[key].shape} ".encode())
        hashed.update(np.ascontiguousarray(arrays[key], dtype="<f8").tobytes())
    return hashed.hexdigest()


def _to_float64(layer: Conv | Dense, n_axes: int) -> None:
    """Make the layer's arrays float64, exactly: error bounds elsewhere are those of float64 arithmetic."""
    for field in ("weight", "bias"):
        try:
            array = np.asarray(getattr(layer, field)).astype(np.float64, casting="safe", copy=False)
        except TypeError as error:
            raise DataError(f"{layer.name}: the {field} is not real float64 numbers; convert it first") from error
        object.__setattr__(layer, field, array)
    weight, bias = layer.weight, layer.bias
    _expect(weight.ndim == n_axes and weight.size > 0, layer.name, f"a weight of shape {weight.shape} does not fit")
    _expect(bias.shape == weight.shape[:1], layer.name, f"a bias of shape {bias.shape} does not fit its weight")


def _to_integers(owner: Conv | MaxPool | Network, field: str, count: int, least: int) -> None:
    given = getattr(owner, field)
    try:
        values = tuple(map(whole, given))
    except TypeError:
        values = ()
    name = getattr(owner, "name", "network")
    fits = len(values) == count and all(least <= value <= MOST_ENTRIES for value in values)
    _expect(fits, name, f"{field} cannot be {given}")
    object.__setattr__(owner, field, values)


def _expect(condition: bool, name: str, complaint: str) -> None:
    if not condition:
        raise DataError(f"{name}: {complaint}")
