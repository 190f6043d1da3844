"""Networks of one's own as entries of networks.yaml: files with their weights, and models of torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_files
import pytest
from onnx_files import node
from residual_network import make
from workspace import Workspace

import certlip
from certlip.base.record import Record
from certlip.pytorch.export import export_network

SHAPE = (1, 4, 4)


def residual(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = [
        node("Conv", ["x", "w"], "a", "first", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "b", "relu"),
        node("Add", ["b", "x"], "c", "sum"),
        node("Flatten", ["c"], "d", "flat"),
        node("Gemm", ["d", "v"], "y", "last"),
    ]
    known = {"w": rng.standard_normal((1, 1, 3, 3)), "v": rng.standard_normal((16, 2))}
    onnx_files.save(path, nodes, ("n", *SHAPE), known, save_as_external_data=True, location=f"{path.name}.data")


@pytest.fixture
def own(workspace: Workspace) -> Workspace:
    folder = workspace.folder
    residual(folder / "net.onnx", 0)
    export_network(make().double().eval(), SHAPE).save(folder / "graph.npz")
    (folder / "broken.onnx").write_text("network,method\n")
    entries = {
        "read": {"onnx": "net.onnx"},
        "graph": {"npz": "graph.npz"},
        "broken": {"onnx": "broken.onnx"},
        "missing": {"npz": "missing.npz"},
        "theirs": {"torchvision": "squeezenet1_1", "input_shape": [3, 32, 32]},
    }
    workspace.edit(lambda networks: networks.update(entries), "networks.yaml")
    workspace.restrict([*entries, "block"], {"product": None, "autolip": None})
    return workspace


def test_own_networks_are_rows_and_a_broken_file_costs_only_its_own(own: Workspace) -> None:
    folder = own.folder
    outcome = own.snakemake()
    assert outcome.returncode == 0, outcome.text
    assert "Traceback" not in outcome.text
    for name in ("read", "graph", "block", "theirs"):
        record = Record.load(folder / f"results/bounds/{name}/product.json")
        assert record.status == "ok", record.reason
    for name, words in {
        "broken": "broken.onnx cannot be read as an ONNX file",
        "missing": "missing.npz does not",
    }.items():
        record = Record.load(folder / f"results/bounds/{name}/product.json")
        assert (record.status, record.value) == ("no_data", None)
        assert words in record.reason
        assert "delete" not in record.reason
        assert f"certlip: no_data for {name}: {record.reason}" in outcome.text
    for name, source in {"read": "net.onnx", "graph": "graph.npz"}.items():
        alone = certlip.bound(certlip.load(folder / source), method="product")
        assert Record.load(folder / f"results/bounds/{name}/product.json").value == alone.value
    assert (folder / "results/networks/graph.npz").read_bytes()
    assert own.dry_run() == set()
    assert own.snakemake(targets=["verify"]).returncode == 0

    residual(folder / "net.onnx", 1)  # other numbers, which lie beside the file
    (folder / "missing.npz").write_bytes((folder / "graph.npz").read_bytes())
    seeded = {job for job in own.dry_run() if job.startswith("seed_network")}
    assert seeded == {"seed_network read", "seed_network missing"}
    before = Record.load(folder / "results/bounds/read/product.json").value
    assert own.snakemake().returncode == 0
    assert Record.load(folder / "results/bounds/read/product.json").value != before
    assert Record.load(folder / "results/bounds/missing/product.json").status == "ok"
