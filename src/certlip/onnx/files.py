"""An ONNX file as a graph of one input and one output, without what leads nowhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from onnx.inliner import inline_local_functions

from certlip.base.errors import ConfigError, DataError, UnsupportedLayer
from certlip.network import Shape
from certlip.onnx.known import known_of
from certlip.pytorch.building import Known
from certlip.pytorch.tracing import first_line

SHAPES = ("Shape", "Size")
"""Operators that read off an input what does not depend on its values."""

_ONE_NUMBER_AT_A_TIME = ("Add", "Cast", "Div", "Dropout", "Identity", "Mul", "Sub")
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}


Named = tuple[str, onnx.NodeProto]


@dataclass(frozen=True, eq=False)
class Graph:
    """nodes: those that lead to the output, in order, with their names; known: constants; input_shape: as in the file,
    without the batch axis; input_type: of ONNX's types of numbers."""

    nodes: list[Named]
    known: dict[str, Known]
    input: str
    input_shape: Shape
    input_type: int
    output: str
    opset: int

    @cached_property
    def read(self) -> set[str]:
        """All names that a node takes, and the output's."""
        return {name for _, node in self.nodes for name in node.input} | {self.output}

    @property
    def input_axes(self) -> tuple[int, ...]:
        """The axes of the file's input in the order in which the first layer sees them: the last one in front, where a
        transposition says so behind what is done to each number alone."""
        rank = len(self.input_shape) + 1
        as_they_are, last_in_front = tuple(range(rank)), (0, rank - 1, *range(1, rank - 1))
        name = self.input
        while True:
            readers = [node for _, node in self.nodes if name in node.input]
            if len(readers) != 1 or name == self.output:
                return as_they_are
            if readers[0].op_type == "Transpose":
                axes = [tuple(a.ints) for a in readers[0].attribute if a.name == "perm"]
                return last_in_front if axes == [last_in_front] else as_they_are
            if readers[0].op_type not in _ONE_NUMBER_AT_A_TIME:
                return as_they_are
            name = readers[0].output[0]


def load_graph(path: str | Path, input_shape: Shape | None, operators: Set[str]) -> Graph:
    """The graph of a file; operators: that are known. Raises what `certlip.onnx.read_onnx` does."""
    model = _load(path)
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    if len(inputs) != 1 or len(graph.output) != 1:
        ends = ", ".join(value.name for value in (*inputs, *graph.output))
        raise DataError(
            f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs ({ends}): give a network of one input "
            "and one output, which onnx.utils.extract_model cuts out"
        )
    nodes = _leading_to(_named(graph), graph.output[0].name)
    _expect_operators(nodes, inputs[0].name, operators)
    _expect_whole(path, nodes, {*held, inputs[0].name})
    return Graph(
        nodes,
        {tensor.name: known_of(tensor) for tensor in graph.initializer},
        inputs[0].name,
        _input_shape(path, inputs[0], input_shape),
        inputs[0].type.tensor_type.elem_type,
        graph.output[0].name,
        next((o.version for o in model.opset_import if o.domain in _OWN), 1),
    )


_OWN = ("", "ai.onnx")


def _load(path: str | Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
        return inline_local_functions(model) if model.functions else model
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except Exception as error:  # of protobuf, of the system, or of data in files beside it
        raise DataError(f"{path} cannot be read as an ONNX file ({first_line(error)}); export it again") from error


def _named(graph: onnx.GraphProto) -> list[Named]:
    """Each node under its own name; where it has none that is its alone, its operator and place say which it is."""
    counts = Counter(node.name for node in graph.node)
    return [
        ((node.name if counts[node.name] == 1 and node.name.isprintable() else "") or f"{node.op_type}_{place}", node)
        for place, node in enumerate(graph.node)
    ]


def _leading_to(nodes: list[Named], output: str) -> list[Named]:
    needed, found = {output}, []
    for name, node in reversed(nodes):
        if needed & set(node.output):
            found.append((name, node))
            needed |= set(node.input) - {""}
    return found[::-1]


def _expect_whole(path: str | Path, nodes: list[Named], known: Set[str]) -> None:
    """Raise DataError for a node that takes what nothing before it gives."""
    there = {*known, ""}
    for name, node in nodes:
        if missing := set(node.input) - there:
            raise DataError(f"{path}: node {name} takes {min(missing)}, which nothing gives; export it again")
        there |= set(node.output)


def _expect_operators(nodes: list[Named], given: str, known: Set[str]) -> None:
    """Raise UnsupportedLayer naming all nodes that depend on the input, or on chance, by an operator that is not
    known."""
    depends = {given}
    unknown: dict[str, list[str]] = {}
    for name, node in nodes:
        inner = any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
        is_random = node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")
        foreign = node.domain not in _OWN
        if not (inner or is_random or foreign or depends & set(node.input)) or node.op_type in SHAPES:
            continue
        depends |= set(node.output)
        if inner or is_random or foreign or node.op_type not in known:
            operator = f"{node.domain}.{node.op_type}" if foreign else node.op_type
            unknown.setdefault(operator, []).append(name)
    if unknown:
        raise UnsupportedLayer("; ".join(f"{', '.join(of)}: no bound for {o}" for o, of in unknown.items()))


def _input_shape(path: str | Path, value: onnx.ValueInfoProto, given: Shape | None) -> Shape:
    """Without the batch axis."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in _FLOATS:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise UnsupportedLayer(f"{value.name}: no bound for an input of type {kind}")
    if not tensor.HasField("shape"):
        if given is None:
            raise ConfigError(f"{path} does not say the shape of its input: give input_shape (--input-shape 3,224,224)")
        return given
    sizes = [axis.dim_value if axis.dim_value > 0 else None for axis in tensor.shape.dim]
    if len(sizes) < 2:
        raise DataError(f"{path}: its input of shape {_written(sizes)} has no batch axis; export it with one")
    if sizes[0] not in (1, None):
        raise DataError(f"{path} takes {sizes[0]} inputs at a time; export it for one, or with a dynamic batch axis")
    if given is None:
        if None in sizes[1:]:
            raise ConfigError(
                f"{path} leaves the shape of its input open, {_written(sizes)}: give input_shape (--input-shape "
                "3,224,224)"
            )
        given = tuple(size for size in sizes[1:] if size is not None)
    if len(given) != len(sizes) - 1 or any(n not in (m, None) for n, m in zip(sizes[1:], given, strict=True)):
        raise ConfigError(f"{path} takes inputs of shape {_written(sizes[1:])}, not {given}; correct input_shape")
    return given


def _written(sizes: list[int | None]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in sizes)})"
