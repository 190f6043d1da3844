"""Every kind of layer, and every activation, through everything that takes layers: an answer, or a refusal by name."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

import certlip
from certlip.base.errors import UnsupportedLayer
from certlip.methods import names
from certlip.network import (
    ACTIVATIONS,
    JOINS,
    Activation,
    Along,
    Concat,
    Conv,
    Dense,
    Flatten,
    Gather,
    Maximum,
    MaxPool,
    Network,
    Reshape,
    Softmax,
    Sort,
    Sum,
)
from certlip.network.layers import Layer
from certlip.network.window import Window, restrict
from certlip.proof import norms
from certlip.pytorch.to_torch import to_torch

rng = np.random.default_rng(0)
MAP = (2, 5, 5)
CONV = Conv("conv", rng.standard_normal((2, 2, 3, 3)), rng.standard_normal(2), padding=(1, 1, 1, 1))
TAIL = (Activation("act", "relu"), Flatten("flat"))

LAYERS = {
    "Conv": CONV,
    "Dense": Dense("layer", rng.standard_normal((3, 50)), rng.standard_normal(3)),
    "Along": Along("layer", 1, rng.standard_normal((4, 5)), rng.standard_normal(4)),
    "Gather": Gather("layer", np.where(np.arange(45.0) % 7 == 3, -1.0, np.arange(45.0)[::-1]).reshape(3, 5, 3)),
    "MaxPool": MaxPool("layer", (2, 2), (2, 1), (1, 0), ceil=True),
    "Sort": Sort("layer", 1),
    "Sort of pairs": Sort("layer", 0),
    "Softmax": Softmax("layer", 2),
    "Softmax, its logarithm": Softmax("layer", 0, log=True),
    "Flatten": Flatten("layer"),
    "Reshape": Reshape("layer", (5, 2, 5)),
    "Sum": Sum("layer", (np.array(0.5), np.array(-2.0)), np.array(1.0)),
    "Concat": Concat("layer", 1),
    "Maximum": Maximum("layer"),
    "Maximum that is a minimum": Maximum("layer", least=True),
    **{f"Activation {kind}": Activation("layer", kind) for kind in ACTIVATIONS},
}
QUICK = {"lower": {"n_points": 8, "n_starts": 2, "n_steps": 5}, "autolip": {"n_iter": 20}}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def network_with(kind: str) -> Network:
    """The layer between a convolution and a dense layer; one that takes two values, of that and of the input."""
    layer = LAYERS[kind]
    if isinstance(layer, Dense):
        head, sources = (CONV, Flatten("first")), (2,)
    else:
        head, sources = (CONV,), (1, 0) if isinstance(layer, JOINS) else (1,)
    before = (*(((k,)) for k in range(len(head))), sources)
    shapes = Network((*head, layer), MAP, before).shapes
    last = Dense("last", rng.standard_normal((3, int(np.prod(shapes[-1])))), np.zeros(3))
    layers = (*head, layer, *TAIL, last)
    return Network(layers, MAP, (*before, *((k,) for k in range(len(head) + 1, len(layers)))))


def test_every_kind_has_an_example() -> None:
    kinds = {kind for part in get_args(Layer) for kind in (get_args(part) or (part,))}
    assert {type(layer) for layer in LAYERS.values()} == kinds
    assert set(Network._KINDS.values()) == kinds


@every_layer
def test_value_shape_file_and_torch_agree(kind: str) -> None:
    network = network_with(kind)
    inputs = rng.standard_normal((3, *MAP))
    values = network.values_of(inputs)
    assert [value.shape[1:] for value in values] == list(network.shapes)
    again = Network.from_arrays(*network.to_arrays())
    assert again.sha256 == network.sha256
    assert np.array_equal(again.forward(inputs), values[-1])
    with torch.no_grad():
        np.testing.assert_allclose(to_torch(network)(torch.tensor(inputs)).numpy(), values[-1], rtol=1e-12, atol=1e-12)


@every_layer
def test_its_constant_holds_and_half_of_it_does_not(kind: str) -> None:
    network = network_with(kind)
    for layer, shape in network.with_shapes:
        constant = norms.layer_constant(layer, shape)
        assert norms.holds(layer, shape, constant)
        assert not norms.holds(layer, shape, constant / 2)


@every_layer
@pytest.mark.parametrize("method", names())
def test_every_method_bounds_it_soundly_or_says_what_it_cannot(kind: str, method: str) -> None:
    network = network_with(kind)
    record = certlip.bound(network, method=method, **QUICK.get(method, {}))
    if record.value is None:
        assert record.status in ("unsupported", "not_certified", "time_limit")
        assert any(layer.name in record.reason for layer in network.layers), record.reason
        return
    if record.certificate is not None:
        assert certlip.verify(record.certificate).ok
    x, y = rng.standard_normal((2, 200, *MAP))
    near = np.concatenate([y[:100], x[100:] + 1e-4 * y[100:]])
    moved = np.linalg.norm(network.forward(x) - network.forward(near), axis=1)
    quotient = float((moved / np.linalg.norm((x - near).reshape(200, -1), axis=1)).max())
    if record.kind == "certified":
        assert record.value >= quotient
    if record.kind == "lower":
        assert record.value <= certlip.bound(network, method="product").value


@every_layer
def test_a_patch_of_it_is_computed_or_refused_by_name(kind: str) -> None:
    layer = LAYERS[kind]
    if isinstance(layer, (*JOINS, Dense)):
        return
    network = Network((CONV, layer), MAP)
    if len(network.shapes[-1]) != 3:
        return
    if not isinstance(layer, Conv | Activation):
        with pytest.raises(UnsupportedLayer, match=layer.name):
            restrict(network, Window(0, 2, 1, 3))
        return
    patch, read = restrict(network, Window(0, 2, 1, 3))
    assert read is not None
    inputs = rng.standard_normal((1, *MAP))
    np.testing.assert_allclose(
        patch.forward(inputs[:, :, *read.slices]), network.forward(inputs)[:, :, 0:2, 1:3], rtol=1e-12, atol=1e-12
    )
