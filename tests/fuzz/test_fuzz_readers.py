"""Damaged and forged files: every reader gives what it read or one sentence of its own, never a Python trace."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import random_network
from test_fuzz_bounds import floor

import certlip
from certlip import collect, config
from certlip.base.errors import CertlipError
from certlip.base.files import read_npz, write_npz
from certlip.base.record import Record
from certlip.datasets import Dataset
from certlip.methods import load as load_method
from certlip.network import Concat, Network, Sum
from certlip.partition.plan import Plan
from certlip.proof import certificate, norms
from certlip.proof.certificate import LowerCertificate, UpperCertificate
from certlip.pytorch.weights import load_weights, save_weights
from certlip.solving import blocks, solved_files

REPOSITORY = Path(__file__).parents[2]
SEED = 1
"""Of a convolution, a dense layer and an activation between."""

READERS: dict[str, Callable[[Path], Any]] = {
    "config.yaml": config.load,
    "networks.yaml": lambda path: config.resolve({**_quick(), "networks_file": str(path)}, REPOSITORY),
    "datasets.yaml": lambda path: config.resolve({**_quick(), "datasets_file": str(path)}, REPOSITORY),
    "record.json": Record.load,
    "plan.json": Plan.load,
    "network.npz": Network.load,
    "upper.npz": certlip.verify,
    "metrics.npz": certlip.verify,
    "graph.npz": certlip.verify,
    "lower.npz": certlip.verify,
    "blocks.npz": certlip.verify,
    "dataset.npz": Dataset.load,
    "bounds.csv": collect.read,
    "weights.pt": load_weights,
}

fuzzed = settings(max_examples=max(40, settings().max_examples // 5), suppress_health_check=list(HealthCheck))
every_reader = pytest.mark.parametrize("name", READERS)

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([2**31, 2**63, 10**30]),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.integers(-2, 3), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(-2, 3), max_size=2),
)


@cache
def _quick() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "config" / "quick.yaml").read_text())


@cache
def honest() -> dict[str, bytes]:
    """The content of one good file for each reader."""
    network = random_network(SEED, max_linear=3, kinds=("relu",))
    plan = blocks.make_plan(lambda: network, load_method("dcp"), {"grid": [2, 2], "merge": "cover"})
    digits = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 1, 2, 2)
    labels = np.array([0, 1])
    records = {
        name: certlip.bound(network, method=method, **options)
        for name, method, options in (
            ("upper", "lipsdp", {}),
            ("metrics", "dcp", {"merge": "folded", "grid": [2, 2]}),
            ("lower", "lower", {"n_points": 4, "n_starts": 1, "n_steps": 0}),
        )
    }
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("networks.yaml", "datasets.yaml"):
            (folder / file).write_bytes((REPOSITORY / "config" / file).read_bytes())
        (folder / "config.yaml").write_text(yaml.safe_dump(_quick()))
        for kind, record in records.items():
            record.certificate.save(folder / f"{kind}.npz")
        beside_itself(network).save(folder / "graph.npz")
        records["upper"].save(folder / "record.json")
        plan.save(folder / "plan.json")
        network.save(folder / "network.npz")
        solved_files.save_solved(folder / "blocks.npz", network, plan, blocks.solve_blocks(network, plan))
        Dataset(digits, labels, digits, labels, 2).save(folder / "dataset.npz")
        collect.save(collect.collect(records.values(), {}), folder / "bounds.csv")
        save_weights(folder / "weights.pt", {"weight": torch.ones(3, 2), "bias": torch.zeros(3)})
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def beside_itself(network: Network) -> UpperCertificate:
    """Of x -> (f(x), f(x) - f(x) / 2), whose constant is sqrt(1.25) times that of f."""
    half = Sum("half", (np.array(1.0), np.array(-0.5)), np.array(0.0))
    n = len(network.layers)
    layers, sources = (*network.layers, half, Concat("both", 0)), (*network.sources, (n, n), (n, n + 1))
    graph = Network(layers, network.input_shape, sources)
    return UpperCertificate.from_constants(graph, norms.layer_constants(graph))


def without_copy(network: Network) -> Network | None:
    """The f of `beside_itself`, None for any other network."""
    f = Network(network.layers[:-2], network.input_shape, network.sources[:-2]) if len(network.layers) > 2 else None
    return f if f and network.sha256 == beside_itself(f).network.sha256 else None


def outcome(name: str, path: Path) -> Any:
    """What the reader gives; None where it refuses in one sentence. Anything else it raises fails the test."""
    try:
        return READERS[name](path)
    except CertlipError as error:
        refusal = str(error)
    assert refusal
    assert "\n" not in refusal
    return None


@every_reader
def test_an_honest_file_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(honest()[name])
    assert outcome(name, tmp_path / name) is not None


@every_reader
@fuzzed
@given(data=st.data())
def test_changed_bytes_are_read_or_refused_in_one_sentence(name: str, data: st.DataObject) -> None:
    content = bytearray(honest()[name])
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "drop", "insert"]))
        if how == "flip":
            content[position] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut":
            content = content[: position + 1]
        elif how == "drop":
            del content[position : position + data.draw(st.integers(1, 9))]
        else:
            content[position:position] = data.draw(st.binary(min_size=1, max_size=9))
        content = content or bytearray(b"\0")
    with TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        outcome(name, Path(folder) / name)


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith((".yaml", ".json", ".npz"))])
@fuzzed
@given(data=st.data())
def test_forged_structures_are_refused_in_one_sentence_or_prove_what_they_say(name: str, data: st.DataObject) -> None:
    """One or two values anywhere in the structure are replaced; what verification then accepts must be true."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(honest()[name])
        if name.endswith(".npz"):
            header, arrays = read_npz(path)
            if data.draw(st.booleans()):
                key = data.draw(st.sampled_from(sorted(arrays)))
                arrays[key] = data.draw(st.sampled_from(DAMAGED_ARRAYS))(arrays[key])
            write_npz(path, forge(header, data), arrays)
        elif name.endswith(".json"):
            path.write_text(json.dumps(forge(json.loads(path.read_text()), data)))
        else:
            path.write_text(yaml.safe_dump(forge(yaml.safe_load(path.read_text()), data)))
        found = outcome(name, path)
        if name in ("upper.npz", "metrics.npz", "graph.npz", "lower.npz") and found:
            proved = certificate.load(path)
            f = without_copy(proved.network)
            least = floor(f) * np.sqrt(1.25) if f else floor(proved.network) if proved.network.is_chain else 0.0
            if isinstance(proved, LowerCertificate):
                best = certlip.bound(proved.network, method="lipsdp").value
                assert best is None or proved.value <= best
            else:
                assert proved.value >= least * (1 - 1e-9)


DAMAGED_ARRAYS: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda a: a * np.nan,
    lambda a: -a,
    lambda a: a * 0,
    lambda a: np.atleast_1d(a)[..., :0],
    lambda a: a[None],
    lambda a: a.astype(np.int8),
    lambda a: a.astype("U5"),
    lambda a: a + 1j,
    lambda a: a * 1e200,
]


def forge(content: Any, data: st.DataObject) -> Any:
    """A copy with one to three of its nodes replaced or removed."""
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        places = [(owner, key) for owner in _containers(content) for key in _keys(owner)]
        if not places:
            break
        owner, key = places[data.draw(st.integers(0, len(places) - 1))]
        if data.draw(st.integers(0, 4)) == 0:
            del owner[key]
        else:
            owner[key] = data.draw(VALUES)
    return content


def _containers(content: Any) -> list[Any]:
    if not isinstance(content, dict | list):
        return []
    inner = content.values() if isinstance(content, dict) else content
    return [content, *(found for value in inner for found in _containers(value))]


def _keys(owner: Any) -> list[Any]:
    return list(owner) if isinstance(owner, dict) else list(range(len(owner)))
