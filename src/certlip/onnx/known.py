"""What depends on no input is computed while a file is read, by the reference implementation of each operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from certlip.onnx.steps import Step
from certlip.pytorch.building import Known, Value


def known_of(tensor: onnx.TensorProto) -> Known:
    return plain(onnx.numpy_helper.to_array(tensor))


def plain(array: Any) -> Known:
    """Numbers with a point as float64; half and bfloat16 too, which NumPy does not count among floats."""
    array = np.asarray(array)
    return array if array.dtype.kind in "biuU" else array.astype(np.float64)


def evaluate(step: Step) -> list[Known]:
    """The outputs of a step that needs no more than the shapes of what depends on the input."""
    if step.depends:
        shape = np.array(step.value().shape, dtype=np.int64)
        size = step.operator == "Size"
        return [np.array(shape.prod())] if size else [shape[step.get("start", 0) : step.get("end", len(shape))]]
    given = {name: value for name, value in zip(step.node.input, step.inputs, strict=True) if value is not None}
    return [plain(array) for array in reference(step, given)]


def reference(step: Step, given: dict[str, Any]) -> list[Any]:
    """What the reference implementation of the step's operator gives for these arrays."""
    typed = {name: onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given.items()}
    inputs = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in typed.items()]
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in step.node.output]
    graph = onnx.helper.make_graph([step.node], "known", inputs, [o for o in outputs if o.name])
    return list(ReferenceEvaluator(graph, opsets={"": step.opset}).run(None, given))


def agrees(step: Step, value: Value) -> bool:
    """Whether a value is what the reference implementation of the step gives."""
    arrays = (i.example.numpy() if isinstance(i, Value) else i for i in step.inputs)
    given = {name: array for name, array in zip(step.node.input, arrays, strict=True) if array is not None}
    (expected,) = reference(step, given)
    return bool(expected.shape == value.shape and np.allclose(value.example.numpy(), expected, rtol=1e-6, atol=1e-6))
