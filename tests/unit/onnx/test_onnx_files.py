"""An ONNX file is the network that certlip bounds, layer by layer under its own names, or one sentence says why not."""

from __future__ import annotations

import operator
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_files
import pytest
import torch
from onnx import TensorProto, helper
from onnx_files import node
from torch import nn

import certlip
from certlip.base.errors import CertlipError, ConfigError, DataError, ExportError, UnsupportedLayer
from certlip.network import Conv, Dense, Flatten, Network, Sum
from certlip.onnx import read_onnx
from certlip.onnx.operators import OPERATORS
from certlip.pytorch.export import export_network
from certlip.pytorch.to_torch import to_torch

IMAGE = (3, 8, 8)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def forward(network: Network, inputs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return to_torch(network)(torch.tensor(inputs, dtype=torch.float64)).numpy()


def residual(path: Path, batch: int | str = 1, **how: object) -> Path:
    """Two convolutions around a sum, normalised, averaged and given to a dense layer by MatMul and Add; what MatMul
    takes is shaped by what is read off the input."""
    nodes = [
        node("Shape", ["x"], "shape", "shape"),
        node("Slice", ["shape", "zero", "one", "zero"], "batch", "batch"),
        node("Concat", ["batch", "minus"], "flat_shape", "flat_shape", axis=0),
        node("Conv", ["x", "w1"], "a", "stem/conv", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "s", "s", "m", "v"], "b", "stem/norm"),
        node("Relu", ["b"], "c", "stem/relu"),
        node("Conv", ["c", "w2", "m"], "d", "block/conv", pads=[1, 1, 1, 1]),
        node("Add", ["d", "c"], "e", "block/add"),
        node("Relu", ["e"], "f", "block/relu"),
        node("GlobalAveragePool", ["f"], "g", "pool"),
        node("Reshape", ["g", "flat_shape"], "h", "flat"),
        node("MatMul", ["h", "w3"], "i", "head/dense"),
        node("Add", ["i", "z"], "y", "head/bias"),
    ]
    known = {
        "w1": normal(4, 3, 3, 3),
        "w2": normal(4, 4, 3, 3, seed=1),
        "w3": normal(4, 5, seed=2),
        "z": normal(5),
        "s": normal(4, seed=3),
        "m": normal(4, seed=4),
        "v": 0.1 + normal(4, seed=5) ** 2,
        "zero": np.array([0]),
        "one": np.array([1]),
        "minus": np.array([-1]),
    }
    return onnx_files.save(path, nodes, (batch, *IMAGE), known, **how)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_residual_network_is_exported_under_the_names_of_its_nodes(batch: int | str, tmp_path: Path) -> None:
    path = residual(tmp_path / "net.onnx", batch)
    network = export_network(*read_onnx(path))
    inputs = normal(3, *IMAGE, seed=9)
    expected = onnx_files.outputs_of(path, inputs)
    np.testing.assert_allclose(forward(network, inputs), expected, rtol=1e-4, atol=1e-4)
    assert [
        (layer.name, type(layer)) for layer in network.layers if isinstance(layer, Conv | Dense | Sum | Flatten)
    ] == [
        ("stem/conv", Conv),
        ("block/conv", Conv),
        ("block/add", Sum),
        ("pool", Conv),
        ("flat", Flatten),
        ("head/dense", Dense),
    ]


def test_a_file_is_bounded_by_every_kind_of_method(tmp_path: Path) -> None:
    model = certlip.load(residual(tmp_path / "net.onnx"))
    lower = certlip.bound(model, method="lower").value
    for how in ({"method": "product"}, {"method": "lipsdp"}, {"method": "autolip", "certified": True}):
        record = certlip.bound(model, **how)
        assert record.value is not None, record.reason
        assert record.value >= lower
        assert certlip.verify(record.certificate).ok
    assert certlip.bound(model, method="autolip").value >= lower


def test_numbers_in_files_beside_it_are_read_and_missed_by_name(tmp_path: Path) -> None:
    inside = certlip.bound(certlip.load(residual(tmp_path / "net.onnx")), method="product")
    apart = {"save_as_external_data": True, "location": "numbers.bin", "size_threshold": 0}
    path = residual(tmp_path / "apart.onnx", **apart)
    assert certlip.bound(certlip.load(path), method="product").value == inside.value
    (tmp_path / "numbers.bin").unlink()
    with pytest.raises(DataError, match=r"apart\.onnx cannot be read as an ONNX file \(.*numbers\.bin.*\)"):
        read_onnx(path)


def channels_last(path: Path) -> tuple[Path, nn.Module]:
    """A file whose input has its channels last, as TensorFlow's have, and the module that takes them first."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)).eval()
    weight = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    rows = weight["3.weight"].reshape(5, 4, 6, 6).transpose(2, 3, 1, 0).reshape(4 * 6 * 6, 5)
    nodes = [
        node("Sub", ["x", "mean"], "a", "standardise"),
        node("Transpose", ["a"], "b", "to_first", perm=[0, 3, 1, 2]),
        node("Conv", ["b", "w", "v"], "c", "conv"),
        node("Transpose", ["c"], "d", "to_last", perm=[0, 2, 3, 1]),
        node("Add", ["d", "shift"], "e", "shift"),
        node("Relu", ["e"], "f", "relu"),
        node("Reshape", ["f", "flat"], "g", "flat"),
        node("MatMul", ["g", "rows"], "y", "dense"),
    ]
    known = {
        "mean": normal(3),
        "w": weight["0.weight"],
        "v": weight["0.bias"],
        "shift": np.zeros(4, np.float32),
        "flat": np.array([-1, 4 * 6 * 6]),
        "rows": rows,
    }
    return onnx_files.save(path, nodes, (None, 8, 8, 3), known), module


def test_transpositions_of_channels_that_are_last_are_taken_into_the_layers(tmp_path: Path) -> None:
    path, module = channels_last(tmp_path / "net.onnx")
    read, shape = read_onnx(path)
    assert shape == (3, 8, 8)
    inputs = normal(2, 8, 8, 3, seed=6)
    expected = onnx_files.outputs_of(path, inputs)
    found = read(torch.tensor(inputs.transpose(0, 3, 1, 2), dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    bounds = [certlip.bound(*given, method="product").value for given in ((read, shape), (module, shape))]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-6)


def test_a_column_for_each_example_is_a_vector(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["w", "x"], "a", "first"),
        node("Add", ["a", "b"], "c", "bias"),
        node("Relu", ["c"], "d", "relu"),
        node("MatMul", ["v", "d"], "e", "second"),
        node("Squeeze", ["e", "axis"], "y", "flat"),
    ]
    known = {"w": normal(4, 6), "b": normal(4, 1), "v": normal(2, 4, seed=1), "axis": np.array([2])}
    path = onnx_files.save(tmp_path / "net.onnx", nodes, (1, 6, 1), known)
    network = export_network(*read_onnx(path))
    inputs = normal(3, 6, 1)
    np.testing.assert_allclose(forward(network, inputs), onnx_files.outputs_of(path, inputs), rtol=1e-5, atol=1e-5)


def test_nodes_without_a_name_of_their_own_are_called_by_their_operator_and_place(tmp_path: Path) -> None:
    dense = [helper.make_node("Gemm", [a, "w"], [b], name="same") for a, b in (("x", "a"), ("b", "y"))]
    nodes = [dense[0], helper.make_node("Relu", ["a"], ["b"]), dense[1]]
    network = export_network(*read_onnx(onnx_files.save(tmp_path / "net.onnx", nodes, (1, 4), {"w": normal(4, 4)})))
    assert [layer.name for layer in network.layers] == ["Gemm_0", "Relu_1", "Gemm_2"]


def test_functions_of_the_file_itself_are_read(tmp_path: Path) -> None:
    twice = helper.make_function(
        "mine", "Twice", ["a"], ["c"], [node("Add", ["a", "a"], "c", "add")], [helper.make_opsetid("", 17)]
    )
    nodes = [helper.make_node("Twice", ["x"], ["y"], domain="mine", name="twice")]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4))
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    graph = helper.make_graph(nodes, "graph", [given], [end])
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=8), tmp_path / "net.onnx")
    module, _ = read_onnx(tmp_path / "net.onnx")
    assert module(torch.ones(1, 4)).tolist() == [[2.0] * 4]


def test_all_nodes_with_an_unknown_operator_are_named_at_once(tmp_path: Path) -> None:
    nodes = [
        node("Sin", ["x"], "a", "first"),
        node("Relu", ["a"], "b", "relu"),
        node("CumSum", ["b", "one"], "c", "second"),
        node("Sin", ["c"], "y", "third"),
        node("Acos", ["one_number"], "z", "of a constant"),
        node("Cos", ["x"], "unused", "unused"),
    ]
    known = {"one": np.array(1), "one_number": normal(1)}
    with pytest.raises(UnsupportedLayer) as error:
        read_onnx(onnx_files.save(tmp_path / "net.onnx", nodes, (1, 4), known))
    assert str(error.value) == "first, third: no bound for Sin; second: no bound for CumSum"


def test_chance_is_no_constant(tmp_path: Path) -> None:
    nodes = [node("RandomNormal", [], "a", "noise", shape=[1, 4]), node("Add", ["x", "a"], "y", "add")]
    with pytest.raises(UnsupportedLayer, match=r"^noise: no bound for RandomNormal$"):
        read_onnx(onnx_files.save(tmp_path / "net.onnx", nodes, (1, 4)))


def test_what_is_read_otherwise_than_onnxruntime_has_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPERATORS, "Add", lambda step: step.build.arithmetic(operator.sub, *step.inputs))
    with pytest.raises(
        ExportError, match=r"net\.onnx: what was read of it differs from onnxruntime by .* at inputs of"
    ):
        read_onnx(residual(tmp_path / "net.onnx"))


def cut(path: Path) -> None:
    residual(path)
    path.write_bytes(path.read_bytes()[:-200])


def of_shape(*shape: int | str | None) -> Callable[[Path], object]:
    return lambda path: onnx_files.save(path, [node("Relu", ["x"], "y", "relu")], shape)


UNREADABLE: dict[str, tuple[Callable[[Path], object], type[CertlipError], str]] = {
    "missing": (lambda path: None, DataError, r"net\.onnx does not exist; check the path"),
    "text": (lambda path: path.write_text("a,b\n1,2\n"), DataError, r"net\.onnx (cannot be read as|is no valid)"),
    "cut": (cut, DataError, r"net\.onnx cannot be read as an ONNX file \(.*\); export it again"),
    "empty": (lambda path: path.touch(), DataError, r"net\.onnx has 0 inputs and 0 outputs"),
    "two outputs": (
        lambda path: onnx_files.save(path, [node("Relu", ["x"], "y", "r")], (1, 4), outputs=("y", "x")),
        DataError,
        r"net\.onnx has 1 inputs and 2 outputs \(x, y, x\): give a network of one input and one output",
    ),
    "four at a time": (of_shape(4, 3), DataError, r"net\.onnx takes 4 inputs at a time; export it for one"),
    "no batch axis": (of_shape(4), DataError, r"net\.onnx: its input of shape \(4\) has no batch axis"),
    "an open shape": (of_shape(1, 3, None, "w"), ConfigError, r"open, \(1, 3, any, any\): give input_shape"),
}


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_file_that_is_no_such_network_is_one_sentence(how: str, tmp_path: Path) -> None:
    write, kind, words = UNREADABLE[how]
    write(tmp_path / "net.onnx")
    with pytest.raises(kind, match=words):
        read_onnx(tmp_path / "net.onnx")


def test_an_open_shape_is_taken_from_whoever_knows_it(tmp_path: Path) -> None:
    path = onnx_files.save(tmp_path / "net.onnx", [node("Relu", ["x"], "y", "relu")], ("n", 3, None, "w"))
    assert read_onnx(path, (3, 4, 5))[1] == (3, 4, 5)
    with pytest.raises(
        ConfigError, match=r"takes inputs of shape \(3, any, any\), not \(2, 4, 5\); correct input_shape"
    ):
        read_onnx(path, (2, 4, 5))


def test_a_network_read_from_a_file_goes_to_another_process(tmp_path: Path) -> None:
    model = certlip.load(residual(tmp_path / "net.onnx"))
    shutil.rmtree(tmp_path)
    record = certlip.bound(model, method="autolip", certified=True, max_seconds=60)
    assert record.value is not None, record.reason
