"""A program that torch.export saved is read call by call, by nothing that could run what it holds."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from certlip.base.errors import CertlipError, ConfigError, DataError, UnsupportedLayer
from certlip.pytorch.export import export_network
from certlip.pytorch.programs import read_program

IMAGE = (4, 6, 6)


class Calls(nn.Module):
    """A function of the input and of a few weights."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv, self.norm, self.dense = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(6, 6)
        self.turned, self.slopes = nn.ConvTranspose2d(4, 2, 3, stride=2), nn.PReLU(4)
        self.shift = nn.Parameter(torch.randn(4, 1, 1))
        self.norm.running_mean, self.norm.running_var = torch.randn(4), 0.1 + torch.rand(4)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


FUNCTIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "layers": lambda m, x: m.dense(m.slopes(m.norm(m.conv(x)))),
    "a transposed convolution": lambda m, x: m.turned(x),
    "arithmetic": lambda m, x: (2 - x / 3 + m.shift) * m.shift - x,
    "activations": lambda m, x: F.gelu(F.silu(F.elu(torch.tanh(x)))) + F.hardswish(torch.sigmoid(x)) + F.softplus(x),
    "bends": lambda m, x: (
        F.leaky_relu(x, 0.3) + F.relu6(x) + F.hardtanh(x, -2, 1) + x.abs() + x.clamp(min=0.1) - F.mish(x)
    ),
    "in place": lambda m, x: F.relu_(m.conv(x)).mul_(2),
    "pools": lambda m, x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2) + F.adaptive_avg_pool2d(x, 3),
    "means": lambda m, x: x.mean((2, 3)) + x.sum((2, 3)) + x.mean((-1, -2), keepdim=True).flatten(1),
    "shapes": lambda m, x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1).view(x.shape[0], 6, 24).transpose(1, 2),
    "axes": lambda m, x: x.unsqueeze(1).squeeze(1).flatten(2)[:, :, 3],
    "parts": lambda m, x: torch.cat([*x.chunk(2, 1)[::-1], x[:, 1:3]], 1),
    "pieces": lambda m, x: torch.cat(x.split([1, 3], 1)[::-1], 1) + torch.cat(x.split(3, 2), 2),
    "padding": lambda m, x: F.pad(x, (1, 2, 0, 1)) + F.pad(x, (1, 2, 0, 1), mode="replicate"),
    "endings": lambda m, x: F.layer_norm(x.softmax(1), (6,)).log_softmax(-1),
    "order": lambda m, x: x.view(-1, 2, 2, 6, 6).sort(2)[0].flatten(1, 2) + x.sort(1, descending=True).values,
    "extremes": lambda m, x: x.max(1)[0] + x.amin((1, 2), keepdim=True)[:, 0] + torch.min(x[:, 0], m.conv(x)[:, 1]),
    "extremes of numbers": lambda m, x: torch.maximum(x, torch.tensor(0.0)) + torch.minimum(x, torch.tensor(0.5)),
    "weights that are computed": lambda m, x: F.linear(x, m.dense.weight.T * 2 + torch.ones(6, 6)),
    "dropout": lambda m, x: F.dropout(x, 0.5, training=False).clone(),
}


def saved(path: Path, module: nn.Module, example: Tensor | None = None, **how: Any) -> Path:
    example = torch.zeros(1, *IMAGE) if example is None else example
    torch.export.save(torch.export.export(module.eval(), (example,), **how), path)
    return path


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_program_computes_what_the_module_did(name: str, tmp_path: Path) -> None:
    module = Calls(FUNCTIONS[name])
    read, shape = read_program(saved(tmp_path / "net.pt2", module))
    assert shape == IMAGE
    inputs = torch.randn(3, *IMAGE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = torch.cat([module.double().eval()(x[None]) for x in inputs])
        torch.testing.assert_close(read(inputs), expected, rtol=1e-9, atol=1e-9)


def test_an_open_batch_and_an_open_shape_are_taken_as_they_are(tmp_path: Path) -> None:
    batch, rows = torch.export.Dim("batch"), torch.export.Dim("rows", min=4, max=20)
    module = Calls(lambda m, x: m.conv(x).reshape(x.shape[0], 4, -1))
    path = saved(tmp_path / "open.pt2", module, torch.zeros(2, *IMAGE), dynamic_shapes={"x": {0: batch, 2: rows}})
    with pytest.raises(ConfigError, match=r"open\.pt2 leaves the shape of its input open, \(any, 4, any, 6\): give"):
        read_program(path)
    read, shape = read_program(path, (4, 9, 6))
    assert shape == (4, 9, 6)
    assert read(torch.zeros(5, 4, 9, 6, dtype=torch.float64)).shape == (5, 4, 54)
    with pytest.raises(ConfigError, match=r"not \(4, 9, 7\); correct input_shape"):
        read_program(path, (4, 9, 7))


def test_layers_are_called_as_in_the_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    module = nn.Sequential(block, nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    network = export_network(*read_program(saved(tmp_path / "net.pt2", module)))
    assert [layer.name for layer in network.layers] == ["0.0", "0.1", "1", "2"]


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Any], type[CertlipError], str]] = {
    "unknown calls": (
        lambda m, x: torch.cumsum(torch.cumprod(x, 1), 1).cumsum(2),
        UnsupportedLayer,
        r"^cumprod: no bound for cumprod; cumsum, cumsum_1: no bound for cumsum$",
    ),
    "an unknown call of weights": (
        lambda m, x: x + torch.linalg.inv(m.dense.weight),
        UnsupportedLayer,
        r"^\w+: no bound for linalg_inv(_ex)?$",
    ),
    "two outputs": (lambda m, x: (x, -x), DataError, r"net\.pt2 has 1 inputs and 2 outputs"),
    "a batch that is mixed": (lambda m, x: x.flatten(0, 1), UnsupportedLayer, r"that mixes the examples of a batch"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_named(what: str, tmp_path: Path) -> None:
    function, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words):
        read_program(saved(tmp_path / "net.pt2", Calls(function)))


def test_a_program_for_several_examples_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt2", Calls(lambda m, x: x), torch.zeros(2, *IMAGE))
    with pytest.raises(DataError, match=r"net\.pt2 takes an input of shape \(2, 4, 6, 6\); export it for one example"):
        read_program(path)


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Each member of an archive as `change` gives it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("was_run"),)


def test_nothing_in_a_program_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles in the place of weights, constants and sample inputs, and a call of an operator that opens files."""
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "net.pt2", Calls(FUNCTIONS["layers"]))
    pickled = io.BytesIO()
    torch.save(Payload(), pickled)

    def poisoned(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            config = json.loads(content)
            for entry in config["config"].values():
                entry["use_pickle"] = True
            return json.dumps(config).encode()
        return pickled.getvalue() if "/data/" in name else content

    rewritten(path, poisoned)
    with pytest.raises(DataError, match=r"net\.pt2 keeps \S+ as a pickle, which is never read"):
        read_program(path)
    assert not (tmp_path / "was_run").exists()

    path = saved(tmp_path / "opens.pt2", Calls(lambda m, x: x + torch.ones(6)))
    rewritten(
        path, lambda name, content: content.replace(b"torch.ops.aten.ones.default", b"torch.ops.aten.from_file.default")
    )
    with pytest.raises(UnsupportedLayer, match="no bound for from_file"):
        read_program(path)


def test_weights_that_share_numbers_are_read_as_they_lie(tmp_path: Path) -> None:
    module = Calls(lambda m, x: x * m.shift)
    module.shift = nn.Parameter(torch.arange(8.0)[::2].reshape(4, 1, 1))
    read, _ = read_program(saved(tmp_path / "net.pt2", module))
    assert read(torch.ones(1, *IMAGE, dtype=torch.float64))[0, :, 0, 0].tolist() == [0.0, 2.0, 4.0, 6.0]
    np.testing.assert_array_equal(module.shift.detach().reshape(-1), [0, 2, 4, 6])


def test_a_program_that_changes_a_buffer_is_refused_for_that_also_once_it_is_decomposed(tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))
            self.last = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count.add_(1)
            return self.last(x)

    torch.export.save(
        torch.export.export(Counting(), (torch.zeros(1, 3),)).run_decompositions(), tmp_path / "counting.pt2"
    )
    with pytest.raises(DataError, match="1 inputs and 2 outputs, buffers that it changes included"):
        read_program(tmp_path / "counting.pt2")
