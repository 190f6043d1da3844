"""Advice about networks that lie in files, and about images and radii, is followed: what was refused is taken then."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_files
import pytest
import torch
from advice import follow, value_of
from classifiers import classifier, convolutional, pictures
from onnx import TensorProto, helper
from PIL import Image
from torch import nn

import certlip
from certlip.base.errors import DamagedFile
from certlip.certify import images, report
from certlip.datasets import cifar10, mnist
from certlip.entries import make_module
from certlip.exported import exported_sha256, save_exported
from certlip.network import Network
from certlip.pytorch.export import export_network
from certlip.pytorch.to_torch import to_torch
from certlip.pytorch.weights import save_weights

SHAPE = (3,)


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


def bounded(source: Path | str, **options: Any) -> float:
    return value_of(certlip.load(source, **options))


def expected() -> float:
    return value_of(chain(), SHAPE)


HERE = {"model": f"{__name__}:chain", "input_shape": SHAPE}


def write_safetensors(path: Path) -> None:
    header: dict[str, Any] = {}
    numbers = b""
    for name, tensor in chain().state_dict().items():
        more = tensor.numpy().tobytes()
        place = [len(numbers), len(numbers) + len(more)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": place}
        numbers += more
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + numbers)


def write_onnx(
    path: Path, shape: tuple[int | str | None, ...] = ("batch", 3), first: str = "x", outputs: tuple[str, ...] = ("y",)
) -> None:
    nodes = [
        onnx_files.node("Gemm", [first, "w", "v"], "a", "first", transB=1),
        onnx_files.node("Relu", ["a"], "b", "relu"),
        onnx_files.node("Gemm", ["b", "u", "t"], "y", "second", transB=1),
    ]
    state = chain().state_dict()
    names = zip("wvut", ("0.weight", "0.bias", "2.weight", "2.bias"), strict=True)
    onnx_files.save(path, nodes, shape, {n: state[k].numpy() for n, k in names}, outputs=outputs)


def without_a_shape(path: Path) -> None:
    write_onnx(path)
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    onnx.save(model, path)


def write_program(path: Path, module: nn.Module | None = None, example: torch.Tensor | None = None, **how: Any) -> None:
    example = torch.zeros(1, 3) if example is None else example
    torch.export.save(torch.export.export(module or chain(), (example,), **how), path)


def test_what_a_file_or_function_comes_with_is_given_where_it_belongs(tmp_path: Path) -> None:
    network, weights = tmp_path / "net.npz", tmp_path / "net.pt"
    exported = export_network(chain(), SHAPE)
    exported.save(network)
    save_weights(weights, chain().state_dict())
    torch.save({"ema": chain().state_dict()}, tmp_path / "run.ckpt")
    function = str(HERE["model"])
    for advice, fails, works in (
        (
            "{} brings its own weights: leave out model, weights and key",
            lambda: bounded(network, model=function, weights=weights),
            lambda: bounded(network),
        ),
        (
            "{} or {}: give one file of weights",
            lambda: bounded(weights, weights=weights, **HERE),
            lambda: bounded(weights, **HERE),
        ),
        (
            "{} takes inputs of shape {}, not {}; leave input_shape out",
            lambda: bounded(network, input_shape=(4,)),
            lambda: bounded(network),
        ),
        (
            "{} does not say what it takes: give input_shape (--input-shape 3,224,224)",
            lambda: bounded(weights, model=function),
            lambda: bounded(weights, **HERE),
        ),
    ):
        assert follow(advice, fails, works) == pytest.approx(expected())
    advice = "key {} is an entry of a file of weights: give weights (--weights), or leave it out"
    for right in ({"weights": tmp_path / "run.ckpt", "key": "ema"}, {}):
        found = follow(
            advice,
            lambda: bounded(function, input_shape=SHAPE, key="ema"),
            lambda right=right: bounded(function, input_shape=SHAPE, **right),
        )
        assert found == pytest.approx(expected())


def test_each_kind_of_network_that_is_named_is_read(tmp_path: Path) -> None:
    write_onnx(tmp_path / "net.onnx")
    export_network(chain(), SHAPE).save(tmp_path / "net.npz")
    write_program(tmp_path / "net.pt2")
    torch.save(chain().state_dict(), tmp_path / "net.pth")
    (tmp_path / "bounds.csv").write_text("network,method\n")
    rights: list[tuple[Path | str, dict[str, Any]]] = [
        (tmp_path / "net.onnx", {}),
        (tmp_path / "net.npz", {}),
        (tmp_path / "net.pt2", {}),
        (tmp_path / "net.pth", HERE),
        (str(HERE["model"]), {"input_shape": SHAPE}),
    ]
    for source, options in rights:
        found = follow(
            "{} is not a network certlip reads: give an ONNX file (net.onnx), a file that certlip or torch.export "
            "wrote (net.npz, net.pt2), weights with their model (net.pth --model package.module:function "
            "--input-shape 3,224,224), or a function that makes the network (package.module:function --input-shape "
            "3,224,224)",
            lambda: bounded(tmp_path / "bounds.csv"),
            lambda source=source, options=options: bounded(source, **options),
        )
        assert found == pytest.approx(expected())


def nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


def cut(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def half(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[:-100])

    return half


def of_pickles(path: Path) -> None:
    """Weights that are pickled, as the file says."""
    write_program(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            is_config = name.endswith("weights_config.json")
            archive.writestr(
                name, content.replace(b'"use_pickle": false', b'"use_pickle": true') if is_config else content
            )


def of_two(path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = chain()

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.inner(x + y)

    torch.export.save(torch.export.export(Two(), (torch.zeros(1, 3), torch.zeros(1, 3))), path)


def of_a_number(path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = chain()

        def forward(self, x: torch.Tensor, factor: int) -> torch.Tensor:
            return self.inner(x) * factor

    torch.export.save(torch.export.export(Scaled(), (torch.zeros(1, 3), 2)), path)


def with_dropout(path: Path) -> None:
    write_program(path, nn.Sequential(*chain(), nn.Dropout(0.5)).train())


def with_open_sizes(path: Path) -> None:
    rows = torch.export.Dim("rows", min=2, max=9)
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    torch.manual_seed(0)
    write_program(path, module, torch.zeros(1, 4, 3), dynamic_shapes={"input": {1: rows}})


FILES: list[tuple[str, str, Callable[[Path], None], Callable[[Path], None], dict[str, Any]]] = [
    ("{} does not exist; check the path", "net.onnx", nothing, write_onnx, {}),
    ("{} does not exist; check the path", "net.pt2", nothing, write_program, {}),
    ("weights file {} does not exist; check the path", "net.safetensors", nothing, write_safetensors, HERE),
    (
        "{} is damaged or not of the format of safetensors; save the weights again",
        "net.safetensors",
        cut(write_safetensors),
        write_safetensors,
        HERE,
    ),
    (
        "{} cannot be read as an ONNX file ({}); export it again",
        "net.onnx",
        cut(write_onnx),
        write_onnx,
        {},
    ),
    (
        "{}: node {} takes {}, which nothing gives; export it again",
        "net.onnx",
        lambda path: write_onnx(path, first="z"),
        write_onnx,
        {},
    ),
    (
        "{} takes {} inputs at a time; export it for one, or with a dynamic batch axis",
        "net.onnx",
        lambda path: write_onnx(path, (4, 3)),
        lambda path: write_onnx(path, (1, 3)),
        {},
    ),
    (
        "{} takes {} inputs at a time; export it for one, or with a dynamic batch axis",
        "net.onnx",
        lambda path: write_onnx(path, (4, 3)),
        lambda path: write_onnx(path, ("n", 3)),
        {},
    ),
    (
        "{}: its input of shape {} has no batch axis; export it with one",
        "net.onnx",
        lambda path: write_onnx(path, (3,)),
        write_onnx,
        {},
    ),
    (
        "{} is not a program that this version of torch.export saves; save it again",
        "net.pt2",
        cut(write_program),
        write_program,
        {},
    ),
    ("{} keeps {} as a pickle, which is never read; export plain tensors", "net.pt2", of_pickles, write_program, {}),
    (
        "{} takes an input of shape {}; export it for one example, with a batch axis",
        "net.pt2",
        lambda path: write_program(path, example=torch.zeros(2, 3)),
        write_program,
        {},
    ),
    (
        "{} has {} inputs and {} outputs, buffers that it changes included: export a function of one tensor that "
        "gives one tensor, in eval mode",
        "net.pt2",
        of_two,
        write_program,
        {},
    ),
    (
        "{} takes an input of the kind {}: export a function of one tensor",
        "net.pt2",
        of_a_number,
        write_program,
        {},
    ),
    (
        " in training mode; export the program in eval mode",
        "net.pt2",
        with_dropout,
        lambda path: write_program(path, nn.Sequential(*chain(), nn.Dropout(0.5)).eval()),
        {},
    ),
]
"""Advice, a file, what is refused there, what the advice makes of it, and what else is given."""


@pytest.mark.parametrize("at", range(len(FILES)), ids=lambda at: f"{at}-{FILES[at][1]}")
def test_a_file_is_bounded_when_it_is_made_as_advised(at: int, tmp_path: Path) -> None:
    advice, name, wrong, right, options = FILES[at]
    path = tmp_path / name
    wrong(path)
    found = follow(advice, lambda: bounded(path, **options), lambda: (right(path), bounded(path, **options))[1])
    assert found == pytest.approx(expected())


def test_an_input_shape_is_given_where_a_file_leaves_it_open(tmp_path: Path) -> None:
    path, program = tmp_path / "net.onnx", tmp_path / "net.pt2"
    without_a_shape(path)
    found = follow(
        "{} does not say the shape of its input: give input_shape (--input-shape 3,224,224)",
        lambda: bounded(path),
        lambda: bounded(path, input_shape=SHAPE),
    )
    advice = "{} leaves the shape of its input open, {}: give input_shape (--input-shape 3,224,224)"
    write_onnx(path, ("batch", None))
    again = follow(advice, lambda: bounded(path), lambda: bounded(path, input_shape=SHAPE))
    assert found == again == pytest.approx(expected())
    with_open_sizes(program)
    assert follow(advice, lambda: bounded(program), lambda: bounded(program, input_shape=(4, 3))) > 0


def test_a_network_of_one_output_is_cut_out(tmp_path: Path) -> None:
    two, one = tmp_path / "two.onnx", tmp_path / "one.onnx"
    write_onnx(two, outputs=("y", "b"))
    model = onnx.load(two)
    for value, n in zip(model.graph.output, (2, 4), strict=True):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["batch", n]))
    onnx.save(model, two)
    found = follow(
        "{} has {} inputs and {} outputs ({}): give a network of one input and one output, which "
        "onnx.utils.extract_model cuts out",
        lambda: bounded(two),
        lambda: (onnx.utils.extract_model(two, one, ["x"], ["y"]), bounded(one))[1],
    )
    assert found == pytest.approx(expected())


def test_a_damaged_file_is_replaced_or_made_again(tmp_path: Path) -> None:
    path, other = tmp_path / "net.pth", tmp_path / "other.pth"
    advice = "{}; give another file, or have this one made again"

    def read() -> float:
        content = path.read_bytes()
        at = content.index(chain().state_dict()["0.weight"].numpy().tobytes())
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(DamagedFile) as refusal:
            bounded(path, **HERE)
        raise refusal.value

    for file in (path, other):
        torch.save(chain().state_dict(), path)
        torch.save(chain().state_dict(), other)
        found = follow(
            advice, read, lambda file=file: (torch.save(chain().state_dict(), file), bounded(file, **HERE))[1]
        )
        assert found == pytest.approx(expected())


def test_weights_of_a_given_network_are_made_again(tmp_path: Path) -> None:
    network, weights, file = tmp_path / "given.npz", tmp_path / "net.pt", tmp_path / "net.npz"
    export_network(chain(), SHAPE).save(network)
    entry = {"npz": str(network)}

    def write(factor: float) -> None:
        state = to_torch(Network.load(network)).state_dict()
        save_weights(weights, {key: factor * value for key, value in state.items()})

    write(1.0)
    save_exported(file, entry, weights)
    write(2.0)
    found = follow(
        "the weights {} are not those of {}; make them again",
        lambda: exported_sha256(tmp_path, "net", entry),
        lambda: (write(1.0), exported_sha256(tmp_path, "net", entry))[1],
    )
    assert found == Network.load(network).sha256


def test_a_file_whose_origin_is_known_is_put_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "theirs.npz"
    entry = {"npz": str(path), "origin": "github.com/them/theirs"}
    found = follow(
        "{} is not there; put the file there by hand: it comes from {}",
        lambda: make_module(entry),
        lambda: (export_network(chain(), SHAPE).save(path), value_of(make_module(entry), SHAPE))[1],
    )
    assert found == pytest.approx(expected())


def test_published_files_are_read_once_they_are_in_their_place(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    published = gzip.compress(struct.pack(">HBBI", 0, 8, 1, 4) + bytes([1, 2, 3, 4]))
    path.write_bytes(published[:-9])
    labels = follow(
        "{} is damaged ({}); put the published file in its place",
        lambda: mnist.read_idx(path),
        lambda: (path.write_bytes(published), mnist.read_idx(path))[1],
    )
    assert labels.tolist() == [1, 2, 3, 4]
    batch = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [3, 5]})
    _, classes = follow(
        "a batch of cifar10 is damaged or no batch ({}); put the published one in its place",
        lambda: cifar10.read_batch(batch[:-9]),
        lambda: cifar10.read_batch(batch),
    )
    assert classes == [3, 5]


def test_images_are_taken_in_the_form_that_a_network_takes(tmp_path: Path) -> None:
    network, path = classifier(0, 4, 8, 3), tmp_path / "images.npz"
    points, labels = pictures(network, 6)
    for kind in (np.float32, np.float64):
        follow(
            "give the numbers that the network takes, as float32 or float64",
            lambda: certlip.certify(network, points.astype(np.uint8), labels, 0.2, effort=None),
            lambda kind=kind: certlip.certify(network, points.astype(kind), labels, 0.2, effort=None),
        )
    folder = tmp_path / "pictures"
    (folder / "a").mkdir(parents=True)
    Image.new("L", (4, 4), 99).save(folder / "a" / "1.png")
    np.savez(path, images=points, labels=labels)
    for advice, wrong in (
        ("{}: pictures do not fit an input of shape {}; give a .npz file", folder),
        ("{} does not exist; give a .npz file or a folder of pictures", tmp_path / "nowhere"),
    ):
        read, _ = follow(
            advice, lambda wrong=wrong: images.read_images(wrong, network), lambda: images.read_images(path, network)
        )
        assert read.tolist() == points.tolist()
    of_folder, _ = images.read_images(folder, convolutional(0))
    assert of_folder.shape == (1, 1, 4, 4)


def test_radii_pairs_and_budgets_are_those_that_are_possible() -> None:
    network = classifier(5, 6, 12, 12, 6)
    points, labels = pictures(network, 12)

    def certify(radius: float, budget: float | None = None) -> Any:
        return certlip.certify(network, points, labels, radius, budget=budget, effort=None)

    follow(
        "radius {}: give positive numbers, in the unit of the network's input",
        lambda: certify(-0.1, 0.0),
        lambda: certify(0.1, 0.0),
    )
    margins = follow(
        "there is no margin between outputs {} and {}; give two different ones of 0 to {}",
        lambda: certlip.margins(network, method="product", pairs=[(0, 6)]),
        lambda: certlip.margins(network, method="product", pairs=[(0, 5)]),
    )
    assert margins[0, 5].value > 0
    advice = "the budget left out pairs that some image needs: {}; give a larger one"
    words = advice.partition("{}")[0]
    assert words in report.summary(certify(0.1, 0.0), "net")
    assert words not in report.summary(certify(0.1, 600.0), "net")
