"""Networks: what they refuse, their hash and files, and their forward map against loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import settings as limit
from random_networks import PIECEWISE_LINEAR, networks, random_network, random_pool

from certlip.base.errors import DataError, UnsupportedLayer
from certlip.base.files import read_npz, write_npz
from certlip.network import LINEAR, Activation, Conv, Dense, Flatten, Layer, MaxPool, Network

CONV = Conv("c", np.arange(1.0, 19.0).reshape(2, 1, 3, 3), np.zeros(2))
DENSE = Dense("d", np.arange(1.0, 7.0).reshape(2, 3), np.zeros(2))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: replace(CONV, stride=(0, 1)), "stride"),
        (lambda: replace(CONV, stride=(1.5, 1)), "stride"),
        (lambda: replace(CONV, stride=(2,)), "stride"),
        (lambda: replace(CONV, dilation=(0, 0)), "dilation"),
        (lambda: replace(CONV, padding=(-1, 0, 0, 0)), "padding"),
        (lambda: replace(CONV, padding=(1, 1)), "padding"),
        (lambda: replace(CONV, groups=0), "groups"),
        (lambda: replace(CONV, groups=3), "groups"),
        (lambda: replace(CONV, bias=np.zeros(3)), "bias"),
        (lambda: replace(CONV, weight=np.ones((2, 3, 3))), "weight"),
        (lambda: replace(CONV, weight=np.ones((2, 0, 3, 3))), "weight"),
        (lambda: replace(CONV, weight=CONV.weight * 1j), "weight"),
        (lambda: replace(DENSE, weight=np.ones(3)), "weight"),
        (lambda: replace(DENSE, bias=np.zeros(3)), "bias"),
        (lambda: replace(DENSE, weight=np.array([["a", "b", "c"]] * 2)), "weight"),
        (lambda: Activation("a", "leaky_relu", math.nan), "negative_slope"),
        (lambda: Activation("a", "leaky_relu", np.array([0.1, math.inf])), "a: a negative_slope of shape (2,)"),
        (lambda: Activation("a", "leaky_relu", np.ones((2, 1))), "a: a negative_slope of shape (2, 1)"),
        (lambda: Activation("a", "leaky_relu", np.ones(0)), "a: a negative_slope of shape (0,)"),
        (lambda: Activation("a", "leaky_relu", np.array([1j])), "a: the negative_slope"),
        (lambda: Network((Activation("a", "leaky_relu", np.ones(3)),), (2, 3, 3)), "a: 3 negative slopes do not fit"),
        (lambda: Network((Activation("a", "leaky_relu", np.ones(3)),), (4,)), "a: 3 negative slopes do not fit"),
        (lambda: MaxPool("p", (2, 2), (0, 2)), "stride"),
        (lambda: MaxPool("p", (0, 2), (1, 2)), "kernel"),
        (lambda: MaxPool("p", (2, 2), (2, 2), (2, 0)), "padding"),
        (lambda: Network((Flatten("f"),), (0,)), "input_shape"),
        (lambda: Network((Flatten("f"),), (2, 2.5, 2)), "input_shape"),
        (lambda: Network((replace(DENSE, weight=DENSE.weight * math.nan),), (3,)), "NaN"),
        (lambda: Network((replace(DENSE, bias=np.array([0.0, math.inf])),), (3,)), "infinite"),
        (lambda: Network((DENSE,), (4,)), "flat input of 3"),
        (lambda: Network((CONV,), (2, 5, 5)), "channels"),
        (lambda: Network((CONV,), (1, 2, 5)), "larger than its padded input"),
        (lambda: Network((CONV,), (9,)), "(channels, rows, columns)"),
        (lambda: Network((MaxPool("p", (3, 3), (1, 1)),), (1, 2, 5)), "larger than its input"),
    ],
)
def test_a_layer_that_makes_no_sense_is_refused_in_one_sentence(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(DataError) as refusal:
        make()
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_activation_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedLayer, match="act3: no bound for activation swiglu"):
        Network((Activation("act3", "swiglu"),), (3,))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, bool])
def test_weights_of_other_types_become_float64_without_a_rounding(dtype: type) -> None:
    weight = np.array([[1, 0, 1]], dtype=dtype)
    layer = Dense("d", weight, np.zeros(1, dtype=dtype))
    assert layer.weight.dtype == layer.bias.dtype == np.float64
    assert (layer.weight == weight).all()


@limit(max_examples=60)
@given(networks(kinds=(*PIECEWISE_LINEAR, "tanh", "sigmoid")))
def test_outputs_and_matrices_agree_with_the_definition(network: Network) -> None:
    x = np.random.default_rng(0).standard_normal((2, *network.input_shape))
    expected = np.array([oracle.forward(network, one) for one in x])
    np.testing.assert_allclose(network.forward(x), expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, LINEAR):
            assert (layer.matrix(shape).toarray() == oracle.dense_matrix(layer, shape)).all()


@pytest.mark.parametrize("seed", range(8))
def test_max_pooling_agrees_with_the_definition(seed: int) -> None:
    shape = (2, 5, 4)
    network = Network((random_pool(seed, shape),), shape)
    x = np.random.default_rng(seed).standard_normal(shape)
    assert (network.forward(x[None])[0] == oracle.forward(network, x)).all()


@limit(max_examples=30)
@given(network=networks())
def test_a_saved_network_comes_back_the_same(network: Network, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("network") / "n.npz"
    network.save(path)
    loaded = Network.load(path)
    assert loaded.sha256 == network.sha256
    assert loaded.to_arrays()[0] == network.to_arrays()[0]


CHANGES: dict[str, Callable[[Conv], Layer]] = {
    "a weight by one ulp": lambda c: replace(c, weight=np.nextafter(c.weight, 100.0)),
    "the sign of a zero": lambda c: replace(c, bias=-c.bias),
    "the kernel's shape": lambda c: replace(c, weight=c.weight.reshape(2, 1, 1, 9)),
    "stride": lambda c: replace(c, stride=(2, 1)),
    "padding": lambda c: replace(c, padding=(1, 0, 0, 0)),
    "dilation": lambda c: replace(c, dilation=(2, 1)),
    "the name": lambda c: replace(c, name="other"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_of_a_network_changes_with(change: str) -> None:
    changed = CHANGES[change](CONV)
    assert Network((CONV,), (1, 9, 9)).sha256 != Network((changed,), (1, 9, 9)).sha256


def test_the_hash_is_the_same_for_any_memory_layout() -> None:
    layers = [replace(DENSE, weight=w) for w in (DENSE.weight, np.asfortranarray(DENSE.weight))]
    assert len({Network((layer,), (3,)).sha256 for layer in layers}) == 1


def test_a_file_with_other_weights_than_its_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.npz"
    Network((DENSE,), (3,)).save(path)
    header, arrays = read_npz(path)
    arrays["0.weight"][0, 0] += 1e-12
    write_npz(path, header, arrays)
    with pytest.raises(DataError, match="sha256"):
        Network.load(path)


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "empty", "text", "list header", "missing"])
def test_a_damaged_file_is_refused_in_one_sentence_that_names_it(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "n.npz"
    random_network(0).save(path)
    content = bytearray(path.read_bytes())
    match damage:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "bit flipped":
            content[content.index(b".npy") + 60] ^= 1
            path.write_bytes(content)
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("hello")
        case "list header":
            np.savez(path, header=np.frombuffer(b"[1]", dtype=np.uint8))
        case "missing":
            path.unlink()
    with pytest.raises(DataError) as refusal:
        Network.load(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_header_without_layers_is_no_network() -> None:
    for header in ({}, {"layers": [{"layer": "Conv3d"}], "input_shape": [3]}, {"layers": 3, "input_shape": [3]}):
        with pytest.raises(DataError, match="not a network description"):
            Network.from_arrays(header, {})
