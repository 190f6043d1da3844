"""Networks that are no chains: layers joined by sums and concatenations, in NumPy float64, without torch.

A `Graph` is the mathematical object that AutoLip bounds, as a `Network` is that of chains: its numbers are taken as
exact. `certlip.pytorch.export_graph` writes it down from a torch module.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from certlip.base.errors import DataError
from certlip.base.files import floats, text, whole
from certlip.base.rounding import add_up, multiply_up
from certlip.network import Array, Network, Shape, digest, operators


@dataclass(frozen=True, eq=False)
class Sum:
    """offset + sum_i factor_i * x_i, entry by entry: residual sums, differences, scalings.

    factors: one array a source; they and the offset broadcast to the shape that all sources have.
    """

    factors: tuple[Array, ...]
    offset: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(map(_to_float64, self.factors)))
        object.__setattr__(self, "offset", _to_float64(self.offset))


@dataclass(frozen=True)
class Concat:
    """Sources side by side along an axis of one example: 0 for channels."""

    axis: int


@dataclass(frozen=True, eq=False)
class Step:
    """One value, made of earlier ones.

    sources: positions of those, 0 for the graph's input and k for the value of the k-th step; operation: a `Network` is
    a stretch of layers, of one source.
    """

    name: str
    sources: tuple[int, ...]
    operation: Network | Sum | Concat


@dataclass(frozen=True, eq=False)
class Graph:
    """Steps in an order in which they can be computed; the last one's value is the output.

    input_shape: of one example. Raises DataError where a step does not fit its sources or a number is not finite,
    naming the step.
    """

    steps: tuple[Step, ...]
    input_shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", Network((), self.input_shape).input_shape)
        _ = self.shapes

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of the input, and of the value of each step: n_steps + 1 entries."""
        shapes = [self.input_shape]
        for step in self.steps:
            if not step.sources or not all(0 <= operator.index(s) < len(shapes) for s in step.sources):
                raise DataError(f"{step.name}: its sources {step.sources} are not earlier values")
            shapes.append(_output_shape(step, [shapes[s] for s in step.sources]))
        return tuple(shapes)

    def forward(self, inputs: Array) -> Array:
        """Outputs of the graph; inputs: (batch, *input_shape)."""
        return self.values(inputs)[-1]

    def values(self, inputs: Array) -> list[Array]:
        """Inputs, and the value of each step."""
        values = [np.asarray(inputs, dtype=np.float64)]
        for step in self.steps:
            values.append(_apply(step, [values[s] for s in step.sources]))
        return values

    def lipschitz(self, constants: Sequence[Sequence[float]]) -> float:
        """L of the output, rounded up: L_k = sum_i c_ki L_i over the sources i of step k (Virmaux & Scaman 2018).

        constants: for each step one constant a layer, none for a `Sum` or `Concat`: there c_ki are the largest factors,
        or ones.
        """
        reached = [1.0]
        for step, of_layers in zip(self.steps, constants, strict=True):
            match step.operation:
                case Network():
                    coefficients = [multiply_up(of_layers)]
                case Sum(factors):
                    coefficients = [float(np.abs(factor).max()) for factor in factors]
                case Concat():
                    coefficients = [1.0] * len(step.sources)
            reached.append(
                add_up(multiply_up([c, reached[s]]) for c, s in zip(coefficients, step.sources, strict=True))
            )
        return reached[-1]

    @cached_property
    def sha256(self) -> str:
        """Hash of steps, numbers and input shape; the same on every machine."""
        return digest(*self.to_arrays())

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """A JSON-ready header and the arrays, keyed ``0.0.weight`` by step and layer, ``1.factor.0``, ``1.offset``."""
        arrays: dict[str, Array] = {}
        described = []
        for k, step in enumerate(self.steps):
            match step.operation:
                case Network():
                    operation, found = step.operation.to_arrays()
                case Sum(factors, offset):
                    operation = {"n_terms": len(factors)}
                    found = {"offset": offset, **{f"factor.{i}": factor for i, factor in enumerate(factors)}}
                case Concat(axis):
                    operation, found = {"axis": axis}, {}
            arrays |= {f"{k}.{key}": array for key, array in found.items()}
            kind = type(step.operation).__name__
            described.append({**operation, "name": step.name, "sources": list(step.sources), "operation": kind})
        return {"input_shape": list(self.input_shape), "steps": described}, arrays

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, Array]) -> Graph:
        """Inverse of `to_arrays`; raises DataError on anything malformed."""
        try:
            steps = []
            for k, entry in enumerate(header["steps"]):
                own = {key.partition(".")[2]: a for key, a in arrays.items() if key.startswith(f"{k}.")}
                sources = tuple(map(whole, entry["sources"]))
                steps.append(Step(text(entry["name"]), sources, _read_operation(entry, own)))
            return cls(tuple(steps), tuple(header["input_shape"]))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise DataError(f"not a graph description: {error!r}; bound the network again") from error


def _read_operation(entry: dict[str, Any], arrays: dict[str, Array]) -> Network | Sum | Concat:
    match entry["operation"]:
        case "Network":
            return Network.from_arrays(entry, arrays)
        case "Sum":
            factors = tuple(floats(arrays[f"factor.{i}"]) for i in range(whole(entry["n_terms"])))
            return Sum(factors, floats(arrays["offset"]))
        case "Concat":
            return Concat(whole(entry["axis"]))
        case unknown:
            raise ValueError(f"unknown operation {unknown!r}")


def _to_float64(array: Array) -> Array:
    return np.asarray(array).astype(np.float64, casting="safe", copy=False)


def _output_shape(step: Step, shapes: Sequence[Shape]) -> Shape:
    first = shapes[0]
    match step.operation:
        case Network() as network:
            fits, output = shapes == [network.input_shape], network.shapes[-1]
        case Sum(factors, offset):
            fits = len(factors) == len(shapes) and all(shape == first for shape in shapes)
            fits = fits and all(_broadcasts(a, first) and np.isfinite(a).all() for a in (*factors, offset))
            output = first
        case Concat(axis):
            rests = {(shape[:axis], shape[axis + 1 :]) for shape in shapes}
            fits = 0 <= axis < len(first) and len(rests) == 1
            output = (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :]) if fits else first
    if not fits:
        raise DataError(f"{step.name}: {type(step.operation).__name__} of {shapes} does not fit or is not finite")
    return output


def _broadcasts(array: Array, shape: Shape) -> bool:
    """Whether the array has entries, and broadcasting it to the shape gives no other shape."""
    pairs = zip(array.shape[::-1], shape[::-1], strict=False)
    return array.ndim <= len(shape) and all(n in (1, m) for n, m in pairs)


def _apply(step: Step, values: Sequence[Array]) -> Array:
    match step.operation:
        case Network() as network:
            return operators.forward(network, values[0])
        case Sum(factors, offset):
            return offset + sum(factor * value for factor, value in zip(factors, values, strict=True))
        case Concat(axis):
            return np.concatenate(values, axis=axis + 1)
