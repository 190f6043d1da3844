"""Networks with branches as chains: the same function, to the last bit where nothing has to be rounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import certlip
from certlip.base.errors import UnsupportedLayer
from certlip.network import Activation, Along, Array, Concat, Conv, Dense, Flatten, Layer, MaxPool, Network, Sum
from certlip.pytorch.export import export_network

ONE, ZERO = np.array(1.0), np.array(0.0)


class Block(nn.Module):
    """relu(conv2(relu(conv1 x)) + shortcut x)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, stride, 1), nn.Conv2d(c_out, c_out, 3, 1, 1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, stride) if stride > 1 or c_in != c_out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class Bottleneck(nn.Module):
    """Its stride comes in the second of three layers, that of the shortcut at once."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 1), nn.Conv2d(c_out, c_out, 3, 2, 1)
        self.conv3, self.shortcut = nn.Conv2d(c_out, 4 * c_out, 1), nn.Conv2d(c_in, 4 * c_out, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))) + self.shortcut(x))


class PreActivation(nn.Module):
    """x + conv2(leaky_relu(conv1(relu x))), whose x may be negative."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1), nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.leaky_relu(self.conv1(F.relu(x)), 0.25))


class Densely(nn.Module):
    """x beside conv(relu x), twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 2, 3, 1, 1), nn.Conv2d(channels + 2, 3, 1, groups=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([x, self.conv1(torch.relu(x))], 1)
        return torch.cat([self.conv2(torch.abs(x)), x], 1)


class Flat(nn.Module):
    """Dense layers with a sum, a difference and a scaling."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.third(F.relu(self.second(F.relu(x)) - 0.5 * x)) * 2 - 1


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "blocks": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, groups=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            Block(3, 3, 1),
            Block(3, 4, 2),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        (2, 8, 8),
    ),
    "uneven blocks": (lambda: nn.Sequential(Block(2, 3, 2), Block(3, 3, 1)), (2, 7, 6)),
    "bottleneck": (lambda: nn.Sequential(Bottleneck(3, 2), nn.Conv2d(8, 2, 2, dilation=2)), (3, 9, 8)),
    "activations before layers": (lambda: nn.Sequential(PreActivation(2), PreActivation(2), nn.Flatten()), (2, 4, 4)),
    "concatenations": (lambda: nn.Sequential(Densely(2), Densely(7), nn.MaxPool2d(2)), (2, 4, 4)),
    "flat": (Flat, (5,)),
}


def of_integers(name: str) -> Network:
    """One of the networks with small integers for weights: what it computes of integers is exact."""
    make, shape = NETWORKS[name]
    module = make().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=generator))
    return export_network(module, shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_with_branches_and_its_chain_are_the_same_function(name: str) -> None:
    network = of_integers(name)
    inputs = np.random.default_rng(0).integers(-5, 6, (20, *network.input_shape)).astype(float)
    assert not network.is_chain
    assert network.chain.is_chain
    assert np.array_equal(network.chain.forward(inputs), network.forward(inputs))


def test_a_chain_is_its_own_chain() -> None:
    chain = Network((Conv("conv", np.ones((2, 1, 2, 2)), np.zeros(2)), Activation("relu", "relu")), (1, 3, 3))
    assert chain.chain is chain


def dense(name: str, *rows: list[float]) -> Dense:
    return Dense(name, np.array(rows), np.zeros(len(rows)))


def numbers_of(network: Network) -> set[float]:
    return {float(x) for layer in network.layers if isinstance(layer, Dense) for x in np.abs(layer.weight).ravel()}


@pytest.mark.parametrize(
    ("first", "second", "factors"),
    [([[1.0]], [[2.0**-60]], (ONE, ONE)), ([[0.1]], [[0.7]], (0.3 * ONE, ONE)), ([[0.1]], [[0.7]], (ONE, ONE))],
)
def test_what_would_be_rounded_stands_apart(
    first: list[list[float]], second: list[list[float]], factors: tuple[Array, Array]
) -> None:
    layers: tuple[Layer, ...] = (dense("a", *first), dense("b", *second), Sum("sum", factors, ZERO))
    network = Network(layers, (1,), ((0,), (0,), (1, 2)))
    given = {abs(first[0][0]), abs(second[0][0]), *(float(f) for f in factors), 0.0, 1.0}
    assert numbers_of(network.chain) <= given
    assert len([layer for layer in network.chain.layers if isinstance(layer, Dense)]) == 2


def test_a_product_that_would_be_rounded_stands_apart() -> None:
    layers = (dense("a", [0.1, 0.0]), dense("b", [0.0, 0.7]), Sum("sum", (0.3 * ONE, ONE), ZERO))
    assert numbers_of(Network(layers, (2,), ((0,), (0,), (1, 2))).chain) == {0.0, 0.1, 0.3, 0.7, 1.0}


def test_weights_of_a_value_that_stands_twice_are_not_added() -> None:
    layers = (Concat("twice", 0), dense("last", [1.0, 2.0**-60]))
    chain = Network(layers, (1,), ((0, 0), (1,))).chain
    assert numbers_of(chain) == {1.0, 2.0**-60}
    assert len(chain.layers) == 2


def test_uneven_paddings_of_convolutions_beside_each_other_are_kept_apart() -> None:
    rng = np.random.default_rng(0)
    uneven = Conv("uneven", rng.integers(-3, 4, (2, 1, 3, 2)).astype(float), np.zeros(2), padding=(2, 0, 0, 1))
    wide = Conv("wide", rng.integers(-3, 4, (2, 1, 1, 4)).astype(float), np.ones(2), padding=(0, 0, 1, 2))
    network = Network((uneven, wide, Sum("sum", (ONE, ONE), ZERO)), (1, 4, 5), ((0,), (0,), (1, 2)))
    inputs = rng.integers(-5, 6, (5, 1, 4, 5)).astype(float)
    (joined,) = network.chain.layers
    assert np.array_equal(network.chain.forward(inputs), network.forward(inputs)), joined


def test_a_product_that_would_underflow_stands_apart() -> None:
    layers = (Sum("tiny", (2.0**-600 * ONE,), ZERO), dense("small", [2.0**-600]), dense("large", [2.0**1000]))
    chain = Network((*layers, dense("largest", [2.0**200])), (1,)).chain
    assert numbers_of(chain) == {2.0**-600, 2.0**1000, 2.0**200}
    network = Network((*layers, dense("largest", [2.0**200])), (1,))
    for method in ("lipsdp", "product", "liplt"):
        record = certlip.bound(network, method=method)
        assert record.value is not None
        assert record.value >= 1.0
        assert certlip.verify(record.certificate)


@pytest.mark.parametrize("options", [{"stride": (2, 2)}, {"padding": (1, 0, 0, 0)}, {"padding": (0, 1, 0, 2)}])
def test_a_convolution_of_ones_that_moves_or_drops_pixels_is_not_left_out(options: dict[str, tuple[int, ...]]) -> None:
    first, second = (Conv(name, np.ones((1, 1, 1, 1)), np.zeros(1), **options) for name in ("a", "b"))
    sources = ((0,), (1,), (0,), (2, 3))
    layers = (Activation("relu", "relu"), first, second, Concat("both", 0))
    network = Network(layers, (1, 4, 4), sources)
    inputs = np.random.default_rng(0).standard_normal((3, 1, 4, 4))
    assert network.chain.shapes[-1] == network.shapes[-1]
    assert np.array_equal(network.chain.forward(inputs), network.forward(inputs))


def test_what_needs_no_rounding_is_one_layer() -> None:
    layers = (dense("a", [0.5, 1.0]), dense("b", [0.25, 0.0]), Sum("sum", (ONE, -2 * ONE), ZERO))
    (joined,) = Network(layers, (2,), ((0,), (0,), (1, 2))).chain.layers
    assert isinstance(joined, Dense)
    assert joined.weight.tolist() == [[0.0, 1.0]]


def beside(layer: Layer, other: Layer, shape: tuple[int, ...]) -> Network:
    """The sum of two layers of the same value."""
    return Network((layer, other, Sum("sum", (ONE, ONE), ZERO)), shape, ((0,), (0,), (1, 2)))


SAME = Conv("conv", np.ones((1, 1, 3, 3)), np.zeros(1))


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (beside(Activation("act", "tanh"), Activation("other", "relu"), (2,)), "act: no activation of a chain is tanh"),
        (beside(MaxPool("pool", (3, 3), (1, 1)), SAME, (1, 4, 4)), "conv: it changes the size of a map while another"),
        (
            Network((Sum("twice", (0.1 * ONE, 0.7 * ONE), ZERO),), (2,), ((0, 0),)),
            "twice: its numbers cannot be added up without rounding",
        ),
        (
            Network((Concat("cat", 1), Flatten("flat")), (1, 2, 2), ((0, 0), (1,))),
            "cat: Concat stands beside another branch",
        ),
        (
            Network(
                (Sum("scaled", (np.array([[[1.0, 2.0]]]),), ZERO), Conv("c", np.ones((1, 1, 1, 1)), ZERO[None])),
                (1, 2, 2),
            ),
            "scaled: its numbers differ from pixel to pixel",
        ),
    ],
)
def test_what_is_no_chain_is_refused_by_name_with_what_would_do(network: Network, sentence: str) -> None:
    with pytest.raises(UnsupportedLayer, match=f"^{sentence}.*no chain of layers; methods `product`"):
        _ = network.chain
    record = certlip.bound(network, method="lipsdp")
    assert record.status == "unsupported"
    assert record.reason.startswith(sentence)
    assert certlip.bound(network, method="product").status == "ok"


def test_a_layer_that_the_output_does_not_need_is_no_part_of_the_chain() -> None:
    network = Network((dense("unused", [1e300]), dense("used", [2.0])), (1,), ((0,), (0,)))
    (layer,) = network.chain.layers
    assert layer.name == "used"


@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 2, 2)])
def test_values_with_other_numbers_of_axes_than_maps_are_carried_along_their_channels(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    mixed = Along("mixed", 0, rng.standard_normal((3, 3)), rng.standard_normal(3))
    slopes = Activation("slopes", "leaky_relu", np.array([0.5, -1.0, 2.0]))
    residual = Sum("sum", (np.array(1.0), np.array(0.5)), np.array(0.25))
    layers = (mixed, slopes, residual, Concat("side", 0), Activation("last", "relu"))
    network = Network(layers, shape, ((0,), (1,), (2, 0), (3, 0), (4,)))
    inputs = rng.standard_normal((20, *shape))
    assert network.chain.is_chain
    np.testing.assert_allclose(network.chain.forward(inputs), network.forward(inputs), rtol=1e-14, atol=1e-14)
    upper, lower = (certlip.bound(network, method=method) for method in ("lipsdp", "lower"))
    assert lower.value <= upper.value
    assert certlip.verify(upper.certificate).ok
