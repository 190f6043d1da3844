"""Small ONNX files, and what onnxruntime says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


def node(operator: str, inputs: Sequence[str], output: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), output.split(), name=name or f"/{operator}", **attributes)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str | None],
    known: Mapping[str, Any] | None = None,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    **how: Any,
) -> Path:
    """A file with these nodes, from the input x of this shape to the outputs; known: constants; how: to save."""
    held = [numpy_helper.from_array(_plain(array), name) for name, array in (known or {}).items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "graph", [given], ends, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path, **how)
    return path


def _plain(array: Any) -> Array:
    """Single precision, as exporters write it; whole numbers as they are."""
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def outputs_of(path: Path, inputs: Array) -> Array:
    """What onnxruntime gives for these inputs, one at a time."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[None].astype(np.float32)})[0] for x in inputs])
