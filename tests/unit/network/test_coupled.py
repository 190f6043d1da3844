"""Sorting, maxima of values and softmax: their constants hold everywhere and are attained, and what is written for them
with absolute values is the same function."""

from __future__ import annotations

import math

import numpy as np
import pytest

import certlip
from certlip.base.errors import DataError
from certlip.network import Activation, Conv, Dense, Flatten, Layer, Maximum, Network, Reshape, Shape, Softmax, Sort
from certlip.proof import norms
from certlip.proof.tangent import lower_at

RNG = np.random.default_rng(5)
EXAMPLES: dict[str, tuple[Layer, Shape]] = {
    "sort": (Sort("s", 0), (7,)),
    "sort of groups": (Sort("s", 1), (3, 4, 2)),
    "sort of pairs": (Sort("s", 2), (3, 4, 2)),
    "softmax": (Softmax("p", 0), (5,)),
    "softmax of two": (Softmax("p", 0), (2,)),
    "softmax of channels": (Softmax("p", 0), (3, 2, 2)),
    "softmax of one class": (Softmax("p", 0), (1, 2)),
    "log softmax": (Softmax("p", 0, log=True), (5,)),
    "log softmax along rows": (Softmax("p", 2, log=True), (2, 2, 3)),
    "log softmax of one class": (Softmax("p", 1, log=True), (3, 1)),
}
every_example = pytest.mark.parametrize("name", EXAMPLES)


def alone(layer: Layer, shape: Shape) -> Network:
    return Network((layer,), shape)


def quotients(network: Network, points: np.ndarray, others: np.ndarray) -> np.ndarray:
    moved = (network.forward(points) - network.forward(others)).reshape(len(points), -1)
    return np.linalg.norm(moved, axis=1) / np.linalg.norm((points - others).reshape(len(points), -1), axis=1)


@every_example
def test_no_difference_quotient_is_above_the_constant(name: str) -> None:
    layer, shape = EXAMPLES[name]
    points = RNG.standard_normal((4000, *shape)) * 10.0 ** RNG.uniform(-3, 3, (4000, *[1] * len(shape)))
    steps = RNG.standard_normal((4000, *shape)) * 10.0 ** RNG.uniform(-2, 2, (4000, *[1] * len(shape)))
    found = quotients(alone(layer, shape), points, points + steps)
    assert found.max() <= norms.layer_constant(layer, shape) * (1 + 1e-9) + 1e-12


def test_the_constant_of_softmax_is_attained_where_two_classes_share_everything() -> None:
    for n in (2, 3, 10):
        layer = Softmax("p", 0)
        point, direction = np.full(n, -60.0), np.zeros(n)
        point[:2], direction[:2] = 0.0, (1.0, -1.0)
        proved = lower_at(alone(layer, (n,)), point, direction)
        assert 0.5 * (1 - 1e-6) < proved <= norms.layer_constant(layer, (n,)) == 0.5


def test_the_constant_of_log_softmax_is_approached_at_a_corner() -> None:
    for n in (2, 3, 10):
        layer = Softmax("p", 0, log=True)
        point, direction = np.zeros(n), np.zeros(n)
        point[0], direction[0] = 60.0, 1.0
        # J e_1 = e_1 - p_1 1, all of which is -1 but the first entry; with the mean of the others it is the worst
        direction[1:] = -1.0 / (n - 1)
        proved = lower_at(alone(layer, (n,)), point, direction)
        assert math.sqrt(n) * (1 - 1e-6) < proved <= norms.layer_constant(layer, (n,)) <= math.sqrt(n) * (1 + 1e-15)


@pytest.mark.parametrize("log", [False, True])
def test_the_search_for_a_lower_bound_finds_the_constant_of_softmax(log: bool) -> None:
    network = Network((Dense("d", 3 * np.eye(2), np.array([0.2, 0.0])), Softmax("p", 0, log)), (2,))
    record = certlip.bound(network, method="lower", n_points=32, n_starts=4, n_steps=20)
    constant = 3 * norms.layer_constant(Softmax("p", 0, log), (2,))
    assert 0.97 * constant <= record.value <= constant


def test_sorting_attains_its_constant() -> None:
    assert lower_at(alone(Sort("s", 0), (5,)), RNG.standard_normal(5), RNG.standard_normal(5)) > 1 - 1e-12
    assert norms.layer_constant(Sort("s", 0), (5,)) == 1.0


@every_example
def test_the_proved_slope_is_that_of_a_small_step(name: str) -> None:
    layer, shape = EXAMPLES[name]
    network = Network((Dense("d", RNG.standard_normal((6, 4)), RNG.standard_normal(6)), Activation("a", "tanh")), (4,))
    n = math.prod(shape)
    network = Network(
        (*network.layers, Dense("e", 3 * RNG.standard_normal((n, 6)), np.zeros(n)), Reshape("r", shape), layer), (4,)
    )
    for _ in range(20):
        point, direction = RNG.standard_normal((2, 4))
        proved = lower_at(network, point, direction)
        step = 1e-6
        (found,) = quotients(network, (point + step * direction)[None], (point - step * direction)[None])
        assert proved <= found * (1 + 1e-4) + 1e-9
        assert proved == pytest.approx(found, rel=1e-3, abs=1e-7)


def test_a_tie_proves_no_more_than_either_way_of_breaking_it() -> None:
    network = Network((Sort("s", 0), Dense("d", np.array([[1.0, 0.0]]), np.zeros(1))), (2,))
    # the smaller of two equal entries moves by the smaller of 2 and -1, but a proof need not see which
    assert lower_at(network, np.zeros(2), np.array([2.0, -1.0])) <= 1 / math.sqrt(5)
    assert lower_at(network, np.array([0.0, 1.0]), np.array([2.0, -1.0])) == pytest.approx(2 / math.sqrt(5), rel=1e-12)


def test_layers_that_do_not_fit_are_refused_by_name() -> None:
    for layer in (Sort("s", 3), Softmax("s", 2), Sort("s", -1)):
        with pytest.raises(DataError, match=r"^s: there is no axis"):
            alone(layer, (4, 4))
    with pytest.raises(DataError, match=r"^s: log cannot be 1"):
        Softmax("s", 0, log=1)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^m: least cannot be 0"):
        Maximum("m", least=0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^m: a maximum does not fit"):
        Network((Dense("d", np.ones((3, 4)), np.zeros(3)), Maximum("m")), (4,), ((0,), (1, 0)))


def maxout(least: bool = False, n_values: int = 2) -> Network:
    layers: list[Layer] = [Dense(f"d{k}", RNG.standard_normal((5, 4)), RNG.standard_normal(5)) for k in range(n_values)]
    layers += [Maximum("max", least), Dense("last", RNG.standard_normal((3, 5)), np.zeros(3))]
    sources = (*((0,) for _ in range(n_values)), tuple(range(1, n_values + 1)), (n_values + 1,))
    return Network(tuple(layers), (4,), sources)


@pytest.mark.parametrize("network", [maxout(), maxout(least=True), maxout(n_values=3)], ids=["max", "min", "of three"])
def test_maxima_of_values_are_a_chain_of_the_same_function(network: Network) -> None:
    inputs = 10 * RNG.standard_normal((50, 4))
    np.testing.assert_allclose(network.chain.forward(inputs), network.forward(inputs), rtol=1e-12, atol=1e-12)
    assert network.chain.is_chain
    assert network.chain.chain is network.chain


def test_constants_of_what_a_maximum_takes_add_up_in_squares() -> None:
    network = maxout()
    a, b, _, last = (norms.layer_constant(*step) for step in network.with_shapes)
    record = certlip.bound(network, method="product")
    assert math.hypot(a, b) * last <= record.value <= math.hypot(a, b) * last * (1 + 1e-12)
    assert certlip.verify(record.certificate).ok


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sorted_pairs_are_a_chain_of_the_same_function(axis: int) -> None:
    shape = (2, 2, 2)
    network = Network(
        (Conv("c", RNG.standard_normal((2, 2, 3, 3)), np.zeros(2), padding=(1,) * 4), Sort("s", axis)), shape
    )
    inputs = 10 * RNG.standard_normal((50, *shape))
    np.testing.assert_allclose(network.chain.forward(inputs), network.forward(inputs), rtol=1e-12, atol=1e-12)
    assert not any(isinstance(layer, Sort) for layer in network.chain.layers)


def test_a_network_without_pairs_is_its_own_chain() -> None:
    network = Network((Sort("s", 0), Softmax("p", 0)), (3,))
    assert network.chain is network


def test_lipsdp_proves_the_constant_of_sorted_pairs() -> None:
    rotations = [np.linalg.qr(RNG.standard_normal((6, 6)))[0] for _ in range(3)]
    layers: list[Layer] = []
    for k, rotation in enumerate(rotations):
        layers += [Dense(f"d{k}", rotation, np.zeros(6)), Reshape("r", (3, 2)), Sort("s", 1), Flatten("f")]
    record = certlip.bound(Network(tuple(layers), (6,)), method="lipsdp")
    assert record.value is not None, record.reason
    assert 1.0 <= record.value <= 1 + 1e-3
    assert record.certificate.rewritten
    assert certlip.verify(record.certificate).ok


@pytest.mark.parametrize("method", ["product", "gram", "autolip", "dcp", "best"])
def test_a_classifier_that_ends_in_softmax_is_bounded_as_the_function_that_it_is(method: str) -> None:
    layers = (Dense("a", RNG.standard_normal((8, 5)), np.zeros(8)), Activation("b", "relu"))
    logits = Network((*layers, Dense("c", RNG.standard_normal((4, 8)), np.zeros(4))), (5,))
    options = {"budget": 5} if method == "best" else {}
    whole = Network((*logits.layers, Softmax("p", 0)), (5,))
    of_logits, of_whole = (certlip.bound(network, method=method, **options).value for network in (logits, whole))
    assert of_logits is not None
    assert of_whole == pytest.approx(of_logits / 2, rel=1e-3)
    x, y = RNG.standard_normal((2, 300, 5))
    assert quotients(whole, x, y).max() <= of_whole
