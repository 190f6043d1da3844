"""A network is bounded from wherever somebody keeps it, by the same words in Python and on the command line."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_files
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import certlip
from certlip.base.errors import CertlipError, ConfigError, DataError
from certlip.cli import app
from certlip.network import Network
from certlip.pytorch.export import export_network
from certlip.sources import Model

SHAPE = (3,)


def made(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


def value_of(model: object, shape: tuple[int, ...] | None = None) -> float:
    record = certlip.bound(model, shape, method="product")
    assert record.value is not None, record.reason
    return record.value


def as_safetensors(state: Mapping[str, torch.Tensor]) -> bytes:
    header, numbers = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in state.items():
        more = tensor.numpy().tobytes()
        place = [len(numbers), len(numbers) + len(more)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": place}
        numbers += more
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + numbers


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: the same network in each form, and the package that makes it."""
    module = made()
    state = {name: value.detach() for name, value in module.state_dict().items()}
    export_network(module, SHAPE).save(tmp_path / "net.npz")
    nodes = [
        onnx_files.node("Gemm", ["x", "w", "v"], "a", "first", transB=1),
        onnx_files.node("Relu", ["a"], "b", "relu"),
        onnx_files.node("Gemm", ["b", "u", "t"], "y", "second", transB=1),
    ]
    known = {n: state[k].numpy() for n, k in zip("wvut", ("0.weight", "0.bias", "2.weight", "2.bias"), strict=True)}
    onnx_files.save(tmp_path / "net.onnx", nodes, ("batch", 3), known)
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3),)), tmp_path / "net.pt2")
    torch.save(state, tmp_path / "net.pth")
    torch.save({"models": [{"state_dict": state}]}, tmp_path / "run.ckpt")
    (tmp_path / "net.safetensors").write_bytes(as_safetensors(state))
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n\n\ndef make(width=4):\n"
        "    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


MODEL = {"model": "my_networks:make", "input_shape": (3,)}
WAYS: dict[str, tuple[str, dict[str, object]]] = {
    "an exported network": ("net.npz", {}),
    "an ONNX file": ("net.onnx", {}),
    "an exported program": ("net.pt2", {}),
    "weights": ("net.pth", MODEL),
    "weights under a key": ("run.ckpt", {**MODEL, "key": "models.0.state_dict"}),
    "safetensors": ("net.safetensors", MODEL),
    "a factory with weights": ("my_networks:make", {"weights": "net.pth", "input_shape": (3,)}),
}


def words_of(source: str, options: Mapping[str, object]) -> list[str]:
    """The same on the command line."""
    words = [source]
    for name, value in options.items():
        written = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", written]
    return words


def said(*words: str) -> tuple[int, str]:
    """How a command ended, and what it said; an error is printed as `certlip.cli.main` does."""
    result = CliRunner().invoke(app, list(words))
    error = f"certlip: {result.exception}" if isinstance(result.exception, CertlipError) else ""
    assert not isinstance(result.exception, Exception) or error, result.exception
    return result.exit_code, result.output + error


@pytest.mark.parametrize("way", WAYS)
def test_every_form_of_a_network_has_the_same_bound(way: str, folder: Path) -> None:
    source, options = WAYS[way]
    expected = value_of(made(), SHAPE)
    assert value_of(certlip.load(source, **options)) == pytest.approx(expected, rel=1e-9)
    code, text = said("bound", *words_of(source, options), "--method", "product")
    assert code == 0
    assert f"{expected:.9g}"[:8] in text


@pytest.mark.parametrize("way", WAYS)
def test_every_form_of_a_network_has_a_plan_and_layers(way: str, folder: Path) -> None:
    words = words_of(*WAYS[way])
    code, text = said("layers", *words)
    assert code == 0, text
    assert text.count("Dense") == 2
    assert said("plan", *words)[0] == 0


def test_a_factory_without_weights_keeps_its_own(folder: Path) -> None:
    loaded = certlip.load("my_networks:make", input_shape=[3])
    assert isinstance(loaded, Model)
    assert value_of(loaded) == value_of(loaded.module, SHAPE)


def test_a_model_of_torchvision_is_a_factory() -> None:
    loaded = certlip.load("torchvision.models:squeezenet1_1", input_shape=(3, 64, 64))
    assert isinstance(loaded, Model)
    assert type(loaded.module).__name__ == "SqueezeNet"


REFUSED: dict[str, tuple[str, dict[str, object], str]] = {
    "a table": (
        "bounds.csv",
        {},
        r"^bounds\.csv is not a network certlip reads: give an ONNX file \(net\.onnx\), a file",
    ),
    "a missing table": ("nowhere.csv", {}, r"^nowhere\.csv is not a network certlip reads: give"),
    "somebody's arrays": ("theirs.npz", {}, r"^theirs\.npz is not a network certlip reads: give"),
    "a missing network": ("nowhere.npz", {}, r"^nowhere\.npz does not exist"),
    "a missing ONNX file": ("nowhere.onnx", {}, r"^nowhere\.onnx does not exist; check the path"),
    "a missing program": ("nowhere.pt2", {}, r"^nowhere\.pt2 does not exist; check the path"),
    "weights alone": (
        "net.pth",
        {},
        r"^net\.pth holds weights and no network: say what they are weights of, model \(--mod",
    ),
    "weights without a shape": (
        "net.pth",
        {"model": "my_networks:make"},
        r"^my_networks:make does not say what it takes: give input_shape \(--input-shape 3,224,224\)",
    ),
    "two files of weights": (
        "net.pth",
        {**MODEL, "weights": "net.pth"},
        r"^net\.pth or net\.pth: give one file of weights",
    ),
    "a model for a whole network": (
        "net.onnx",
        {"model": "my_networks:make"},
        r"^net\.onnx brings its own weights: leave",
    ),
    "a key without weights": (
        "my_networks:make",
        {"input_shape": (3,), "key": "a"},
        r"^key 'a' is an entry of a file of",
    ),
    "another shape": ("net.npz", {"input_shape": (4,)}, r"^net\.npz takes inputs of shape \(3,\), not \(4,\)"),
    "no shape": ("net.pth", {**MODEL, "input_shape": (0,)}, r"^input_shape \[?\(?0.* is not a shape: give positive"),
    "no such function": ("my_networks:mak", {"input_shape": (3,)}, r"^factory 'my_networks:mak' cannot be imported"),
    "missing weights": ("nowhere.pth", MODEL, r"^weights file nowhere\.pth does not exist"),
    "missing safetensors": ("nowhere.safetensors", MODEL, r"^weights file nowhere\.safetensors does not exist"),
    "damaged safetensors": (
        "cut.safetensors",
        MODEL,
        r"^cut\.safetensors is damaged or not of the format of safetensors",
    ),
    "a damaged program": ("cut.pt2", {}, r"^cut\.pt2 is not a program that this version of torch\.export saves"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_network_is_one_sentence_that_deletes_nothing(what: str, folder: Path) -> None:
    (folder / "bounds.csv").write_text("network,method\n")
    np.savez(folder / "theirs.npz", weight=np.ones((2, 3)))
    (folder / "cut.pt2").write_bytes((folder / "net.pt2").read_bytes()[:500])
    (folder / "cut.safetensors").write_bytes((folder / "net.safetensors").read_bytes()[:-9])
    source, options, words = REFUSED[what]
    with pytest.raises((ConfigError, DataError), match=words) as error:
        certlip.load(source, **options)
    assert "delete" not in str(error.value)
    assert "\n" not in str(error.value)
    code, text = said("bound", *words_of(source, options))
    assert code == 1
    assert text == f"certlip: {error.value!s}" or what == "no shape"


@pytest.mark.parametrize("command", ["verify", "plan", "bound", "layers"])
def test_no_command_tells_anybody_to_delete_a_file_that_is_theirs(command: str, folder: Path) -> None:
    for name in ("bounds.csv", "theirs.npz", "theirs.json", "theirs.pth", "theirs.onnx", "theirs.pt2"):
        (folder / name).write_text("a,b\n1,2\n")
        code, text = said(command, name)
        assert code == 1, (name, text)
        assert name in text
        assert "delete" not in text
        assert (folder / name).read_text() == "a,b\n1,2\n"


class Payload:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return Path.touch, (Path("was_run"),)


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "net.ckpt", "net.bin", "net.pt2", "net.npz", "net.onnx"])
def test_no_file_is_unpickled_whatever_it_is_called(name: str, folder: Path) -> None:
    torch.save({"weight": Payload()}, folder / name)
    options = {} if name in ("net.pt2", "net.npz", "net.onnx") else MODEL
    with pytest.raises(CertlipError):
        certlip.load(name, **options)
    (folder / name).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CertlipError):
        certlip.load(name, **options)
    assert not (folder / "was_run").exists()


def test_a_package_in_the_folder_of_the_command_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(folder)])
    (folder / "networks_here.py").write_text((folder / "my_networks.py").read_text())
    assert said("bound", "networks_here:make", "--input-shape", "3", "--method", "product")[0] == 0


def test_the_layers_of_a_network_are_listed_with_all_that_has_no_bound(folder: Path) -> None:
    (folder / "blocked.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Blocked(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.first = nn.Linear(3, 4)\n        self.odd = nn.Hardshrink()\n"
        "        self.last = nn.Linear(4, 2)\n\n    def forward(self, x):\n"
        "        return torch.cumsum(self.last(self.odd(self.first(x))), 1)\n"
    )
    code, text = said("layers", "blocked:Blocked", "--input-shape", "3")
    assert code == 1
    assert (
        "certlip: Blocked has no bound, for 2 of its layers: odd: no bound for Hardshrink; cumsum: no bound for cumsum"
    ) in text
    assert ["first", "Linear", "3", "4", "-"] in [line.split() for line in text.splitlines()]
    assert ["odd", "Hardshrink", "4", "4", "no", "bound"] in [line.split() for line in text.splitlines()]


def test_the_constants_of_layers_are_those_of_their_matrices(folder: Path) -> None:
    code, text = said("layers", "net.npz")
    rows = [line.split() for line in text.partition("constant\n")[2].splitlines()]
    network = Network.load("net.npz")
    norms = [np.linalg.norm(layer.weight, 2) for layer in network.layers if hasattr(layer, "weight")]
    assert code == 0
    assert [row[2:4] for row in rows] == [["3", "4"], ["4", "4"], ["4", "2"]]
    assert [float(rows[0][4]), float(rows[1][4]), float(rows[2][4])] == pytest.approx([norms[0], 1, norms[1]], rel=1e-4)
