"""Each ONNX operator, in the forms that exporters write, is the torch call that gives what onnxruntime gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import pytest
import torch
import torch.nn.functional as F

from certlip.base.errors import UnsupportedLayer
from certlip.network import Maximum
from certlip.onnx import read_onnx
from certlip.onnx.operators import OPERATORS
from certlip.proof import norms
from certlip.pytorch.export import export_network
from certlip.pytorch.tracing import NAME

RNG = np.random.default_rng(0)
IMAGE = (4, 6, 7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@dataclass
class Case:
    """One node; more: its inputs after x, None for one that is left out; attributes: of the node."""

    operator: str
    shape: tuple[int, ...] = IMAGE
    more: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 17


def case(operator: str, *more: Any, shape: tuple[int, ...] = IMAGE, opset: int = 17, **attributes: Any) -> Case:
    return Case(operator, shape, more, attributes, opset)


ints = np.array

CASES = {
    **{name: case(name) for name in ("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Softplus", "Softsign", "Identity")},
    "Erf": case("Erf"),
    "HardSwish": case("HardSwish"),
    "Mish": case("Mish", opset=18),
    "Gelu": case("Gelu", opset=20),
    "Gelu by tanh": case("Gelu", opset=20, approximate="tanh"),
    "LeakyRelu": case("LeakyRelu", alpha=0.2),
    "LeakyRelu by default": case("LeakyRelu"),
    "Elu": case("Elu", alpha=0.7),
    "Celu": case("Celu", alpha=0.7),
    "Selu": case("Selu"),
    "Selu of its own": case("Selu", alpha=1.2, gamma=0.9),
    "HardSigmoid": case("HardSigmoid"),
    "HardSigmoid of torch": case("HardSigmoid", alpha=1 / 6, beta=0.5),
    "Clip": case("Clip", np.float32(-0.5), np.float32(1.5)),
    "Clip from below": case("Clip", np.float32(-0.5), None),
    "Clip from above": case("Clip", None, np.float32(0.5)),
    "Clip at zero": case("Clip", np.float32(0), None),
    "Clip of nothing": case("Clip"),
    "Clip by attributes": case("Clip", opset=9, min=0.0, max=6.0),
    "PRelu a channel": case("PRelu", normal(4, 1, 1)),
    "PRelu of one slope": case("PRelu", normal(1)),
    "PRelu of a vector": case("PRelu", normal(5), shape=(5,)),
    "Dropout": case("Dropout", np.float32(0.3)),
    "Dropout by attribute": case("Dropout", opset=9, ratio=0.3),
    "Cast": case("Cast", to=1),
    "Add of a number": case("Add", np.float32(2)),
    "Add a channel": case("Add", normal(4, 1, 1)),
    "Add of all": case("Add", normal(1, *IMAGE)),
    "Add to more": case("Add", normal(4, 6, 1), shape=(4, 1, 7)),
    "Add of more axes": case("Add", normal(1, 1, 5), shape=(5,)),
    "Sub": case("Sub", normal(4, 1, 1)),
    "Mul": case("Mul", normal(4, 1, 1)),
    "Div": case("Div", normal(4, 1, 1) + 3),
    "Sum": case("Sum", normal(4, 1, 1), normal(1)),
    "Gemm": case("Gemm", normal(5, 3), normal(3), shape=(5,)),
    "Gemm transposed": case("Gemm", normal(3, 5), normal(1, 3), shape=(5,), transB=1, alpha=0.5, beta=2.0),
    "Gemm without bias": case("Gemm", normal(5, 3), shape=(5,)),
    "MatMul": case("MatMul", normal(5, 3), shape=(5,)),
    "MatMul of rows": case("MatMul", normal(5, 3), shape=(2, 5)),
    "BatchNormalization": case(
        "BatchNormalization", normal(4), normal(4), normal(4), 0.1 + normal(4) ** 2, epsilon=0.01
    ),
    "BatchNormalization of a vector": case(
        "BatchNormalization", normal(5), normal(5), normal(5), 0.1 + normal(5) ** 2, shape=(5,)
    ),
    "LayerNormalization": case("LayerNormalization", normal(6, 7), normal(7), axis=2),
    "Softmax": case("Softmax", axis=1),
    "Softmax of old": case("Softmax", shape=(5,), opset=11),
    "Softmax of all axes": case("Softmax", opset=11),
    "Softmax of the last axes": case("Softmax", opset=9, axis=2),
    "LogSoftmax": case("LogSoftmax"),
    "ReduceMean": case("ReduceMean", axes=[2, 3]),
    "ReduceMean by an input": case("ReduceMean", ints([-2, -1]), opset=18, keepdims=0),
    "ReduceMean of channels": case("ReduceMean", axes=[1], keepdims=0),
    "ReduceMean of all": case("ReduceMean"),
    "ReduceMean of nothing": case("ReduceMean", opset=18, noop_with_empty_axes=1),
    "ReduceSum": case("ReduceSum", ints([2, 3]), keepdims=0),
    "ReduceSum by attribute": case("ReduceSum", opset=11, axes=[1]),
    "ReduceMax": case("ReduceMax", axes=[1], keepdims=0),
    "ReduceMax of maps": case("ReduceMax", axes=[2, 3]),
    "ReduceMin by an input": case("ReduceMin", ints([-1]), opset=18),
    "Max of a number": case("Max", np.float32(0.5)),
    "Max at zero": case("Max", np.float32(0)),
    "Min of a number": case("Min", np.float32(0.5)),
    "Max of numbers": case("Max", normal(4, 1, 1), np.float32(-1)),
    "Transpose": case("Transpose", perm=[0, 2, 3, 1]),
    "Reshape": case("Reshape", ints([1, -1])),
    "Reshape that keeps": case("Reshape", ints([0, 0, -1])),
    "Reshape to an image": case("Reshape", ints([-1, 2, 3, 2]), shape=(12,)),
    "Flatten": case("Flatten"),
    "Flatten of all": case("Flatten", axis=0),
    "Squeeze": case("Squeeze", ints([2]), shape=(4, 1, 7)),
    "Squeeze by attribute": case("Squeeze", shape=(4, 1, 7), opset=11, axes=[2]),
    "Unsqueeze": case("Unsqueeze", ints([1, -1]), shape=(4,)),
    "Unsqueeze by attribute": case("Unsqueeze", shape=(4,), opset=11, axes=[1]),
    "Slice": case("Slice", ints([1, 0]), ints([4, -1]), ints([1, 3]), ints([2, 1])),
    "Slice backwards": case("Slice", ints([-1]), ints([-100]), ints([2]), ints([-2])),
    "Slice by attributes": case("Slice", opset=9, starts=[1], ends=[100], axes=[2]),
    "Gather": case("Gather", ints([2, 0, -1]), axis=1),
    "Gather of one": case("Gather", ints(1), axis=3),
    "Conv": case("Conv", normal(2, 4, 3, 3), normal(2), pads=[1, 1, 1, 1], strides=[2, 1]),
    "Conv padded on one side": case("Conv", normal(2, 4, 3, 3), pads=[0, 1, 2, 0]),
    "Conv in groups": case("Conv", normal(4, 2, 3, 2), group=2, dilations=[1, 2]),
    "Conv to the same size": case("Conv", normal(2, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    "Conv to the same size from below": case("Conv", normal(2, 4, 2, 2), auto_pad="SAME_LOWER"),
    "Conv without padding": case("Conv", normal(2, 4, 3, 3), auto_pad="VALID"),
    "Conv of a line": case("Conv", normal(2, 4, 3), normal(2), shape=(4, 9), pads=[1, 1]),
    "ConvTranspose": case(
        "ConvTranspose", normal(4, 2, 3, 3), normal(2), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    ),
    "ConvTranspose in groups": case("ConvTranspose", normal(4, 1, 3, 3), group=2, dilations=[2, 1]),
    "MaxPool": case("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
    "MaxPool padded on one side": case("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 1]),
    "MaxPool to the same size": case("MaxPool", kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2]),
    "MaxPool rounded up": case("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "MaxPool of a line": case("MaxPool", shape=(4, 9), kernel_shape=[3]),
    "AveragePool": case("AveragePool", kernel_shape=[3, 2], strides=[2, 2]),
    "AveragePool that counts its padding": case(
        "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "AveragePool that leaves its padding out": case("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "AveragePool padded on one side": case("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1], strides=[2, 2]),
    "AveragePool rounded up": case("AveragePool", kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    "GlobalAveragePool": case("GlobalAveragePool"),
    "GlobalMaxPool": case("GlobalMaxPool"),
    "Pad": case("Pad", ints([0, 0, 1, 2, 0, 0, 3, 0]), np.float32(0.5)),
    "Pad by attributes": case("Pad", opset=9, pads=[0, 0, 1, 1, 0, 0, 1, 1]),
    "Pad of axes": case("Pad", ints([1, 2]), None, ints([-1]), opset=18),
    "Pad by reflection": case("Pad", ints([0, 0, 1, 2, 0, 0, 1, 2]), mode="reflect"),
    "Pad by its edge": case("Pad", ints([0, 0, 1, 2, 0, 0, 1, 2]), mode="edge"),
    "Pad of nothing": case("Pad", ints([0] * 8)),
    "Resize by nearest": case("Resize", None, np.float32([1, 1, 2, 2]), mode="nearest"),
    "Resize to a size": case(
        "Resize", None, None, ints([1, 4, 9, 14]), mode="linear", coordinate_transformation_mode="half_pixel"
    ),
    "Resize by its corners": case(
        "Resize", None, None, ints([1, 4, 9, 14]), mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "Resize of old": case("Resize", np.float32([1, 1, 2, 2]), opset=10, mode="nearest"),
    "Upsample": case("Upsample", np.float32([1, 1, 2, 3]), opset=9, mode="nearest"),
}


def written(case: Case, path: Path) -> Path:
    names = [None if array is None else f"k{place}" for place, array in enumerate(case.more)]
    known = {name: array for name, array in zip(names, case.more, strict=True) if name}
    inputs = ["x", *(name or "" for name in names)]
    nodes = [onnx_files.node(case.operator, inputs, "y", "/the/node", **case.attributes)]
    return onnx_files.save(path, nodes, (1, *case.shape), known, case.opset)


def compared(path: Path, shape: tuple[int, ...]) -> torch.nn.Module:
    """What was read of a file, after comparing it with onnxruntime at inputs of this file's own, three at a time."""
    module, read_shape = read_onnx(path)
    assert read_shape == shape
    for scale in (0.3, 3.0):
        inputs = scale * np.random.default_rng(5).standard_normal((3, *shape)).astype(np.float32)
        expected = onnx_files.outputs_of(path, inputs)
        found = module(torch.tensor(inputs, dtype=torch.float64)).numpy()
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    return module


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_what_onnxruntime_gives(name: str, tmp_path: Path) -> None:
    compared(written(CASES[name], tmp_path / "net.onnx"), CASES[name].shape)


def test_every_operator_that_takes_one_value_is_tried() -> None:
    elsewhere = {"Concat", "Split"}
    assert {case.operator for case in CASES.values()} | elsewhere == set(OPERATORS)


@pytest.mark.parametrize("opset", [9, 11, 13, 15, 18, 20, 21])
def test_a_network_of_any_opset_is_read(opset: int, tmp_path: Path) -> None:
    nodes = [
        onnx_files.node("Conv", ["x", "w", "b"], "c", "conv", pads=[1, 1, 1, 1]),
        onnx_files.node("BatchNormalization", ["c", "b", "b", "b", "v"], "n", "norm"),
        onnx_files.node("Relu", ["n"], "r", "relu"),
        onnx_files.node("MaxPool", ["r"], "p", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        onnx_files.node("Flatten", ["p"], "f", "flat"),
        onnx_files.node("Gemm", ["f", "d", "e"], "y", "dense"),
    ]
    known = {"w": normal(2, 4, 3, 3), "b": normal(2), "v": 0.1 + normal(2) ** 2, "d": normal(18, 3), "e": normal(3)}
    compared(onnx_files.save(tmp_path / "net.onnx", nodes, (1, *IMAGE), known, opset), IMAGE)


def test_values_are_cut_and_joined(tmp_path: Path) -> None:
    nodes = [
        onnx_files.node("Split", ["x"], "a b", "cut", axis=1),
        onnx_files.node("Relu", ["a"], "c", "relu"),
        onnx_files.node("Concat", ["c", "b", "x"], "y", "join", axis=-3),
    ]
    compared(onnx_files.save(tmp_path / "net.onnx", nodes, (1, *IMAGE), opset=11), IMAGE)
    nodes[0] = onnx_files.node("Split", ["x", "sizes"], "a b", "cut", axis=1)
    compared(onnx_files.save(tmp_path / "net.onnx", nodes, (1, *IMAGE), {"sizes": ints([1, 3])}), IMAGE)
    nodes[0] = onnx_files.node("Split", ["x"], "a b", "cut", axis=2, num_outputs=2)
    nodes[2] = onnx_files.node("Concat", ["c", "b"], "y", "join", axis=2)
    compared(onnx_files.save(tmp_path / "net.onnx", nodes, (1, *IMAGE), opset=18), IMAGE)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "MatMul"])
def test_two_values_meet_as_in_the_file(operator: str, tmp_path: Path) -> None:
    nodes = [
        onnx_files.node("ReduceMean", ["x"], "a", "mean", axes=[1], keepdims=0),
        onnx_files.node("Softplus", ["x"], "b", "plus"),
        onnx_files.node(operator, ["a", "b"], "y", "meet"),
    ]
    compared(onnx_files.save(tmp_path / "net.onnx", nodes, (1, 2, 5, 5)), (2, 5, 5))


ERROR = [
    onnx_files.node("Div", ["x", "root"], "a", "div"),
    onnx_files.node("Erf", ["a"], "b", "erf"),
    onnx_files.node("Add", ["b", "one"], "c", "add"),
]
PRODUCTS: dict[str, tuple[Any, list[Any]]] = {
    "SiLU": (F.silu, [onnx_files.node("Sigmoid", ["x"], "a", "gate"), onnx_files.node("Mul", ["a", "x"], "y", "last")]),
    "Mish": (
        F.mish,
        [
            onnx_files.node("Softplus", ["x"], "a", "plus"),
            onnx_files.node("Tanh", ["a"], "b", "gate"),
            onnx_files.node("Mul", ["x", "b"], "y", "last"),
        ],
    ),
    "GELU, halved last": (
        F.gelu,
        [*ERROR, onnx_files.node("Mul", ["x", "c"], "d", "mul"), onnx_files.node("Mul", ["d", "half"], "y", "last")],
    ),
    "GELU, halved first": (
        F.gelu,
        [*ERROR, onnx_files.node("Mul", ["half", "c"], "d", "mul"), onnx_files.node("Mul", ["x", "d"], "y", "last")],
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_an_activation_that_is_written_as_a_product_is_one_call(name: str, tmp_path: Path) -> None:
    function, nodes = PRODUCTS[name]
    known = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    module = compared(onnx_files.save(tmp_path / "net.onnx", nodes, (1, 5), known), (5,))
    (call,) = [node for node in module.graph.nodes if node.op == "call_function"]
    assert (call.target, call.meta[NAME]) == (function, "last")


def test_both_extremes_of_two_halves_are_one_sorting_of_constant_one(tmp_path: Path) -> None:
    nodes = [
        onnx_files.node("Split", ["x"], "a b", "halves", axis=1),
        onnx_files.node("Max", ["a", "b"], "larger", "max"),
        onnx_files.node("Min", ["a", "b"], "smaller", "min"),
        onnx_files.node("Concat", ["larger", "smaller"], "c", "both", axis=1),
        onnx_files.node("Softmax", ["c"], "y", "probabilities", axis=1),
    ]
    module = compared(onnx_files.save(tmp_path / "net.onnx", nodes, (1, *IMAGE)), IMAGE)
    network = export_network(module, IMAGE)
    assert [type(layer).__name__ for layer in network.layers] == ["Reshape", "Sort", "Gather", "Softmax"]
    assert np.prod(norms.layer_constants(network)) == 0.5


def test_the_maximum_of_three_values_is_read(tmp_path: Path) -> None:
    nodes = [
        onnx_files.node("Tanh", ["x"], "t", "tanh"),
        onnx_files.node("Neg", ["x"], "n", "neg"),
        onnx_files.node("Max", ["x", "t", "n"], "y", "max"),
    ]
    module = compared(onnx_files.save(tmp_path / "net.onnx", nodes, (1, *IMAGE)), IMAGE)
    network = export_network(module, IMAGE)
    assert sum(isinstance(layer, Maximum) for layer in network.layers) == 2


def test_a_product_that_is_nearly_an_activation_is_none(tmp_path: Path) -> None:
    nodes = PRODUCTS["GELU, halved last"][1]
    for name, known in {
        "another half": {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.4)},
        "another root": {"root": np.float32(1.3), "one": np.float32(1), "half": np.float32(0.5)},
        "another one": {"root": np.float32(2**0.5), "one": np.float32(2), "half": np.float32(0.5)},
    }.items():
        module = compared(onnx_files.save(tmp_path / f"{name}.onnx", nodes, (1, 5), known), (5,))
        assert F.gelu not in [node.target for node in module.graph.nodes], name


REFUSED = {
    "whole numbers": (case("Cast", to=7), "to whole numbers"),
    "a batch that is cut": (case("Slice", ints([0]), ints([0]), ints([0])), "along the batch axis"),
    "a batch that moves": (case("Transpose", perm=[1, 0, 2, 3]), "that moves the batch axis"),
    "a batch that is flattened": (case("Flatten", axis=2), "that mixes the examples of a batch"),
    "slopes of their own": (case("PRelu", normal(*IMAGE)), "with more than one slope a channel"),
    "all axes from the batch on": (case("Softmax", opset=11, axis=0), "that of the batch included"),
    "a mode of its own": (
        case("Resize", None, np.float32([1, 1, 1.3, 1.7]), mode="cubic", cubic_coeff_a=-0.2),
        "in the mode cubic",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_torch_call_is_refused_by_the_name_of_its_node(name: str, tmp_path: Path) -> None:
    given, words = REFUSED[name]
    with pytest.raises(UnsupportedLayer, match=f"^/the/node: no bound for {given.operator} .*{words}"):
        read_onnx(written(given, tmp_path / "net.onnx"))
