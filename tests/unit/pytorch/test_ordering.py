"""GroupSort, MaxMin, CReLU, Maxout, maxima and softmax as people write them in torch: the same function, bounded as
tightly as its mathematics allows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_modules import Graph, seeded

import certlip
from certlip.base.errors import UnsupportedLayer
from certlip.network import LINEAR, Maximum, MaxPool, Network, Softmax, Sort
from certlip.proof import norms
from certlip.pytorch.export import export_network

MAP, FLAT = (4, 6, 5), (12,)


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def max_min(x, dim=1):
    a, b = x.split(x.size(dim) // 2, dim)
    return torch.cat([torch.max(a, b), torch.min(a, b)], dim)


def min_max(x):
    a, b = x.chunk(2, 1)
    return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], 1)


def group_sort(x):
    n, c = x.shape[:2]
    return x.view(n, c // 2, 2, *x.shape[2:]).sort(dim=2)[0].view(x.shape)


def whatever_it_is_called_on(x):
    if len(x.shape) == 4:
        x = x.flatten(1)
    return group_sort(x).reshape(x.size(0), *x.shape[1:])


ONE = {
    "group sort of a shape that is unpacked": (group_sort, MAP),
    "group sort of a shape that is asked for its length": (whatever_it_is_called_on, MAP),
    "group sort of maps": (lambda x: x.view(x.shape[0], 2, 2, 6, 5).sort(dim=2)[0].view(x.shape), MAP),
    "group sort of all channels": (lambda x: torch.sort(x, 1).values, MAP),
    "group sort, descending": (lambda x: x.reshape(-1, 4, 3).sort(-1, descending=True)[0].flatten(1), FLAT),
    "max min of maps": (max_min, MAP),
    "max min of a vector": (max_min, FLAT),
    "max min of chunks": (min_max, MAP),
    "max min along rows": (lambda x: max_min(x, 2), MAP),
    "max min of neighbours": (
        lambda x: torch.cat([x.view(-1, 6, 2).amax(2), x.view(-1, 6, 2).amin(2)], 1),
        FLAT,
    ),
    "crelu": (lambda x: torch.cat([F.relu(x), F.relu(-x)], 1), MAP),
    "crelu the other way around": (lambda x: torch.cat([(-x).relu(), torch.relu(x)], 1), FLAT),
    "crelu of both signs": (lambda x: F.relu(torch.cat([x, -x], 1)), MAP),
    "crelu along rows": (lambda x: torch.cat((F.relu(x), F.relu(-1 * x)), dim=2), MAP),
    "maxout of groups": (lambda x: x.view(-1, 2, 2, 6, 5).max(dim=2)[0], MAP),
    "maxout of a vector": (lambda x: torch.max(x.view(-1, 4, 3), dim=1).values, FLAT),
    "maxout of halves": (lambda x: torch.maximum(x[:, :2], x[:, 2:]), MAP),
    "maxout of every other": (lambda x: torch.max(x[:, ::2], x[:, 1::2]), FLAT),
    "maximum of maps": (lambda x: x.amax((2, 3)), MAP),
    "maximum of maps, kept": (lambda x: torch.amax(x, dim=(-1, -2), keepdim=True), MAP),
    "minimum of maps": (lambda x: x.amin((2, 3)), MAP),
    "smallest channel": (lambda x: x.min(1, keepdim=True)[0], MAP),
    "a ramp": (lambda x: torch.maximum(x, torch.tensor(0.5)), FLAT),
    "another ramp": (lambda x: torch.min(x, torch.tensor(0.5)), FLAT),
}
OTHER = {
    "maximum of neighbours": (lambda x: torch.maximum(x, x.roll(1, 1)), FLAT, math.sqrt(2)),
    "softmax": (lambda x: x.softmax(1), FLAT, 0.5),
    "softmax of channels": (lambda x: F.softmax(x, dim=1), MAP, 0.5),
    "softmax of rows": (lambda x: torch.softmax(x, -1), MAP, 0.5),
    "log softmax": (lambda x: F.log_softmax(x, dim=-1), FLAT, math.sqrt(12)),
    "log softmax of channels": (lambda x: x.log_softmax(1), MAP, 2.0),
}
EVERY = {**{name: (*case, 1.0) for name, case in ONE.items()}, **OTHER}
every_one = pytest.mark.parametrize("name", EVERY)


def exported(name: str) -> tuple[nn.Module, Network]:
    function, shape, _ = EVERY[name]
    module = Called(function).double().eval()
    return module, export_network(module, shape)


@every_one
def test_it_is_read_as_what_it_computes(name: str) -> None:
    module, network = exported(name)
    inputs = np.random.default_rng(3).uniform(-3, 3, (6, *network.input_shape))
    with torch.no_grad():
        expected = module(torch.tensor(inputs)).numpy()
    np.testing.assert_allclose(network.forward(inputs), expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(network.chain.forward(inputs), expected, rtol=1e-12, atol=1e-12)


@every_one
def test_its_constant_is_that_of_its_mathematics_and_proved(name: str) -> None:
    _, network = exported(name)
    record = certlip.bound(network, method="product")
    constant = EVERY[name][2]
    assert constant <= record.value <= constant * (1 + 1e-8)
    assert certlip.verify(record.certificate).ok


@every_one
def test_some_small_step_moves_it_as_far_as_its_constant_says_or_less(name: str) -> None:
    module, network = exported(name)
    rng = np.random.default_rng(4)
    points = rng.standard_normal((2000, *network.input_shape)) * 10.0 ** rng.uniform(
        -1, 1, (2000, *[1] * len(network.input_shape))
    )
    steps = 1e-3 * rng.standard_normal(points.shape)
    with torch.no_grad():
        moved = (module(torch.tensor(points + steps)) - module(torch.tensor(points))).flatten(1).norm(dim=1).numpy()
    largest = (moved / np.linalg.norm(steps.reshape(2000, -1), axis=1)).max()
    assert largest <= EVERY[name][2] * (1 + 1e-9)
    if name in ("group sort of maps", "max min of maps", "max min of a vector", "crelu", "crelu of both signs"):
        assert largest > 1 - 1e-6  # of these each step is as long behind as before


@pytest.mark.parametrize("name", [name for name in ONE if name.startswith(("max min", "crelu"))])
def test_pairs_are_bounded_by_methods_for_chains_too(name: str) -> None:
    _, network = exported(name)
    for method, options in (("lipsdp", {}), ("lower", {"n_points": 8, "n_starts": 2, "n_steps": 5})):
        record = certlip.bound(network, method=method, **options)
        assert record.value == pytest.approx(1.0, rel=1e-3), record.reason


def test_both_extremes_of_a_pair_are_one_sorting() -> None:
    for name in ("max min of maps", "max min of a vector", "max min of chunks", "crelu", "crelu of both signs"):
        _, network = exported(name)
        assert sum(isinstance(layer, Sort) for layer in network.layers) == 1, name
        assert network.is_chain


def test_the_maximum_of_two_linear_maps_is_that_of_two_values() -> None:
    module = seeded(Graph(lambda m, x: torch.maximum(m.a(x), m.b(x))))
    network = export_network(module, (4,))
    assert isinstance(network.layers[-1], Maximum)
    a, b = (norms.layer_constant(layer, (4,)) for layer in network.layers if isinstance(layer, LINEAR))
    record = certlip.bound(network, method="product")
    assert math.hypot(a, b) <= record.value <= math.hypot(a, b) * (1 + 1e-12)
    assert certlip.bound(network, method="lower").value <= certlip.bound(network, method="lipsdp").value
    assert certlip.bound(module, (4,), method="autolip").value == pytest.approx(a + b, rel=1e-3)


def test_what_is_read_twice_stays_beside_the_sorting() -> None:
    module = Called(lambda x: x + max_min(x))
    network = export_network(module.double(), FLAT)
    inputs = np.random.default_rng(0).standard_normal((5, *FLAT))
    np.testing.assert_allclose(network.forward(inputs), module(torch.tensor(inputs)).numpy(), rtol=1e-13)
    assert certlip.bound(network, method="product").value == pytest.approx(2.0, rel=1e-8)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cat([F.relu(x + 1), F.relu(-x + 1)], 1),
        lambda x: torch.cat([F.relu(x), F.relu(1 - x)], 1),
        lambda x: F.relu(torch.cat([1 - x, x], 1)),
        lambda x: torch.cat([F.relu(x), F.relu(-2 * x)], 1),
        lambda x: torch.cat([F.relu(x), F.relu(x)], 1),
        lambda x: torch.cat([F.relu(x), torch.tanh(-x)], 1),
    ],
)
def test_what_looks_like_crelu_and_is_none_keeps_the_constants_of_its_parts(function) -> None:
    network = export_network(Called(function).double(), (3,))
    assert not any(isinstance(layer, Sort) for layer in network.layers)
    rng = np.random.default_rng(0)
    points, steps = rng.uniform(-1, 1, (500, 3)), 1e-4 * rng.standard_normal((500, 3))
    moved = np.linalg.norm(network.forward(points + steps) - network.forward(points), axis=1)
    largest = (moved / np.linalg.norm(steps, axis=1)).max()
    assert 1.2 < largest <= certlip.bound(network, method="product").value


def test_pooling_and_softmax_modules_become_one_layer_each() -> None:
    assert [type(layer) for layer in export_network(Called(lambda x: x.amax((2, 3), keepdim=True)), MAP).layers] == [
        MaxPool
    ]
    softmaxes = {nn.Softmax(1): (0, False), nn.LogSoftmax(-1): (2, True), nn.Softmax2d(): (0, False)}
    for module, options in softmaxes.items():
        (layer,) = export_network(module, MAP).layers
        assert isinstance(layer, Softmax)
        assert (layer.axis, layer.log) == options


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x: x.sort(1)[1].double(), "sort: no bound for sort where more than its values is used"),
        (lambda x: x.max(1)[1].double(), "max_1: no bound for max where more than its values is used"),
        (lambda x: x.sort(0)[0], "anything along the examples of a batch"),
        (lambda x: x * torch.max(x), "max"),
        (lambda x: torch.maximum(x, torch.arange(5.0)), "maximum"),
        (lambda x: torch.maximum(x, x.sum(1, keepdim=True)), "maximum"),
        (lambda x: x.softmax(0), "anything along the examples of a batch"),
        (lambda x: x.topk(2, 1)[0], "topk"),
    ],
)
def test_what_has_no_constant_here_is_refused_by_name(function, sentence: str) -> None:
    with pytest.raises(UnsupportedLayer, match=sentence):
        export_network(Called(function).double(), MAP)


def test_autolip_takes_what_it_knows_in_closed_form() -> None:
    for name in ("group sort of maps", "maxout of groups", "max min of maps", "softmax", "log softmax of channels"):
        module, network = exported(name)
        estimate = certlip.bound(module, network.input_shape, method="autolip")
        expected = {"max min of maps": 2.0}.get(name, EVERY[name][2])
        assert estimate.value == pytest.approx(expected, rel=1e-6), name
