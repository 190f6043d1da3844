"""One node of an ONNX graph with what it is given: its attributes, and its inputs, known or dependent on the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from certlip.base.errors import UnsupportedLayer
from certlip.pytorch.building import Builder, Known, Value

Input = Value | Known
"""What an ONNX value is while a file is read."""


@dataclass(frozen=True, eq=False)
class Step:
    """node: of the graph; inputs: None where one is left out; opset: of the file; build: the module so far."""

    node: onnx.NodeProto
    inputs: tuple[Input | None, ...]
    attributes: dict[str, Any]
    opset: int
    build: Builder

    @classmethod
    def of(cls, node: onnx.NodeProto, inputs: Sequence[Input | None], opset: int, build: Builder) -> Step:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        plain = {key: value.decode() if isinstance(value, bytes) else value for key, value in attributes.items()}
        return cls(node, tuple(inputs), plain, opset, build)

    @property
    def operator(self) -> str:
        return str(self.node.op_type)

    @property
    def depends(self) -> bool:
        """Whether it depends on the network's input."""
        return any(isinstance(i, Value) for i in self.inputs)

    @property
    def operands(self) -> list[Input]:
        """The inputs of an operator none of whose may be left out."""
        return [given for given in self.inputs if given is not None]

    def refused(self, why: str = "") -> UnsupportedLayer:
        return self.build.refused(why)

    def value(self, place: int = 0) -> Value:
        """An input that depends on the network's input; raises UnsupportedLayer for a known one."""
        return self.value_of(self.inputs[place], self.build)

    @staticmethod
    def value_of(given: Input | None, build: Builder) -> Value:
        if not isinstance(given, Value):
            raise build.refused(" of a constant")
        return given

    def known(self, place: int) -> Known | None:
        """An input that depends on no input, None if it is left out; raises UnsupportedLayer for any other."""
        given = self.inputs[place] if place < len(self.inputs) else None
        if isinstance(given, Value):
            raise self.refused(f" whose input {self.node.input[place]} depends on that of the network")
        return given

    def needed(self, place: int) -> Known:
        """The same, where leaving it out is not allowed."""
        given = self.known(place)
        if given is None:
            raise self.refused(f" without its input {place}")
        return given

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def given(self, name: str, place: int, default: Any = None) -> Any:
        """What older opsets have as an attribute and newer ones as an input, as a list of plain numbers or a number."""
        known = self.known(place)
        return self.get(name, default) if known is None else known.tolist()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Value:
        return self.build.call(function, *args, **kwargs)

    def axis(self, axis: int, rank: int | None = None) -> int:
        """An axis counted from the front."""
        return axis % (len(self.value().shape) if rank is None else rank)
