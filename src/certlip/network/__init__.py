"""The network whose Lipschitz constant is bounded: layers in NumPy float64, without torch.

A `Network` is the mathematical object of every bound here: its float64 weights are taken as exact. Batch normalisation,
average pooling and dropout do not appear; `certlip.pytorch.export` writes them as convolutions or drops them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from certlip.base.errors import DamagedFile, DataError
from certlip.base.files import floats, read_npz, text, whole, write_npz
from certlip.network.layers import (
    ACTIVATIONS,
    COUPLED,
    JOINS,
    LINEAR,
    MOST_ENTRIES,
    MOVED,
    Activation,
    Along,
    Array,
    Concat,
    Conv,
    Coupled,
    Dense,
    Flatten,
    Gather,
    Join,
    Layer,
    Linear,
    Maximum,
    MaxPool,
    Pair,
    Reshape,
    Shape,
    Softmax,
    Sort,
    Sum,
    expect,
    to_integers,
)

__all__ = [
    "ACTIVATIONS",
    "COUPLED",
    "JOINS",
    "LINEAR",
    "MOST_ENTRIES",
    "MOVED",
    "Activation",
    "Along",
    "Array",
    "Concat",
    "Conv",
    "Coupled",
    "Dense",
    "Flatten",
    "Gather",
    "Join",
    "Layer",
    "Linear",
    "MaxPool",
    "Maximum",
    "Network",
    "Pair",
    "Reshape",
    "Shape",
    "Softmax",
    "Sort",
    "Sum",
]


@dataclass(frozen=True, eq=False)
class Network:
    """A graph of layers, each computed from the input or from values of layers before it; the last one is the output.

    input_shape: (channels, rows, columns) or (n,), without a batch axis; sources: for each layer the positions of what
    it is computed from, 0 for the input and k for the value of the k-th layer. Without them each layer follows the one
    before: such a network is a chain.

    Raises DataError where shapes do not fit or a number is not finite, naming the layer.
    """

    layers: tuple[Layer, ...]
    input_shape: Shape
    sources: tuple[tuple[int, ...], ...] = ()

    _KINDS: ClassVar[dict[str, type]] = {c.__name__: c for c in (*LINEAR, Gather, Activation, *COUPLED, *MOVED, *JOINS)}

    def __post_init__(self) -> None:
        to_integers(self, "input_shape", len(self.input_shape), least=1)
        sources = tuple(tuple(map(whole, s)) for s in self.sources) or _one_after_the_other(len(self.layers))
        object.__setattr__(self, "sources", sources)
        expect(len(sources) == len(self.layers), "network", "there are not sources for each layer")
        for layer in self.layers:
            if not all(np.isfinite(array).all() for _, array in _arrays(layer)):
                raise DataError(f"{layer.name}: the weights hold NaN or infinite values; train or export them again")
        _ = self.shapes

    @property
    def is_chain(self) -> bool:
        """Whether each layer follows the one before, none of them one of `JOINS`."""
        follow = self.sources == _one_after_the_other(len(self.layers))
        return follow and not any(isinstance(layer, JOINS) for layer in self.layers)

    @cached_property
    def chain(self) -> Network:
        """The same function as a chain of layers: itself, or residual sums and concatenations written as wider layers
        (`certlip.network.rewriting`), maxima and sorted pairs with absolute values (`certlip.network.pairs`).

        Raises UnsupportedLayer naming what cannot be written so.
        """
        from certlip.network.pairs import with_absolute_values

        network = with_absolute_values(self)
        if network.is_chain:
            return network
        from certlip.network.rewriting import as_chain

        return as_chain(network)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of the input, and of the value of each layer: n_layers + 1 entries."""
        shapes = [self.input_shape]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            known = bool(sources) and all(0 <= s < len(shapes) for s in sources)
            expect(known, layer.name, f"its sources {sources} are not earlier values")
            expect(len(sources) == 1 or isinstance(layer, JOINS), layer.name, "it takes one value")
            shapes.append(layer.output_shape(*(shapes[s] for s in sources)))
        largest = max(shapes, key=math.prod)
        expect(math.prod(largest) <= MOST_ENTRIES, "network", f"a map of shape {largest} is too large")
        return tuple(shapes)

    @property
    def with_shapes(self) -> list[tuple[Layer, Shape]]:
        """Each layer with the shape of the value, or the first one, that it takes."""
        return [(layer, self.shapes[s[0]]) for layer, s in zip(self.layers, self.sources, strict=True)]

    def values_of(self, inputs: Array) -> list[Array]:
        """Inputs, and the value of each layer; inputs: (batch, *input_shape)."""
        values = [np.asarray(inputs, dtype=np.float64)]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            values.append(layer.apply(*(values[s] for s in sources)))
        return values

    def forward(self, inputs: Array) -> Array:
        """Outputs of the network; inputs: (batch, *input_shape)."""
        return self.values_of(inputs)[-1]

    def segment(self, first: int, last: int) -> Network:
        """Layers [first, last) as a network of their own, of the value before them.

        Raises DataError where they are computed from anything else.
        """
        sources = tuple(tuple(s - first for s in of_layer) for of_layer in self.sources[first:last])
        return Network(self.layers[first:last], self.shapes[first], sources)

    @cached_property
    def sha256(self) -> str:
        """Hash of layer kinds, options, weights, sources and input shape; the same on every machine."""
        return _digest(*self.to_arrays())

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """A JSON-ready header and the arrays, keyed ``0.weight``, ``0.bias``, ``3.factors.0``, ..."""
        arrays: dict[str, Array] = {}
        described = []
        for index, layer in enumerate(self.layers):
            found = dict(_arrays(layer))
            arrays |= {f"{index}.{key}": array for key, array in found.items()}
            held = {key.partition(".")[0] for key in found}
            options = {f.name: getattr(layer, f.name) for f in fields(layer) if f.name not in held}
            options = {name: v for name, v in options.items() if name not in _ADDED or v != _ADDED[name]}
            described.append({"layer": type(layer).__name__, **options})
        header = {"input_shape": list(self.input_shape), "layers": described}
        if self.sources != _one_after_the_other(len(self.layers)):
            header["sources"] = [list(s) for s in self.sources]
        return header, arrays

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, Array]) -> Network:
        """Inverse of `to_arrays`; raises DataError on anything malformed."""
        try:
            layers = [cls._read_layer(entry, _held(i, arrays)) for i, entry in enumerate(header["layers"])]
            sources = tuple(tuple(map(whole, s)) for s in header.get("sources", ()))
            return cls(tuple(layers), tuple(header["input_shape"]), sources)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise DataError(f"not a network description: {error!r}; export the network again") from error

    @classmethod
    def _read_layer(cls, described: dict[str, Any], held: dict[str, Any]) -> Layer:
        entry = {k: tuple(v) if isinstance(v, list) else v for k, v in described.items()}
        kind = cls._KINDS[str(entry.pop("layer"))]
        texts = {f.name: text(entry[f.name]) for f in fields(kind) if f.type == "str"}
        layer: Layer = kind(**entry | held | texts)
        return layer

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
            raise DamagedFile(f"{path}: the weights do not match their sha256", path)
        return network


_ADDED: dict[str, Any] = {"parameters": (), "ceil": False}
"""Fields that files of before lack, left out where they say what those mean: their hashes stay."""


def _one_after_the_other(n_layers: int) -> tuple[tuple[int, ...], ...]:
    """The sources of a chain."""
    return tuple((k,) for k in range(n_layers))


def _arrays(layer: Layer) -> Iterator[tuple[str, Array]]:
    """The arrays of a layer by field; those of a series as ``factors.0``, ``factors.1``, ..."""
    for field in fields(layer):
        value = getattr(layer, field.name)
        if isinstance(value, np.ndarray):
            yield field.name, value
        elif isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
            yield from ((f"{field.name}.{i}", array) for i, array in enumerate(value))


def _held(index: int, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """What `_arrays` gave of the layer at an index: arrays and tuples of arrays, by field."""
    own = {key.partition(".")[2]: floats(a) for key, a in arrays.items() if key.startswith(f"{index}.")}
    series = [key.partition(".")[0] for key in own if "." in key]
    return {key: array for key, array in own.items() if "." not in key} | {
        name: tuple(own[f"{name}.{i}"] for i in range(series.count(name))) for name in series
    }


def _digest(header: dict[str, Any], arrays: Mapping[str, Array]) -> str:
    """SHA-256 of a JSON-ready header and float64 arrays; the same on every machine."""
    hashed = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for key in sorted(arrays):
        hashed.update(f"{key} {arrays[key].shape} ".encode())
        hashed.update(np.ascontiguousarray(arrays[key], dtype="<f8").tobytes())
    return hashed.hexdigest()
