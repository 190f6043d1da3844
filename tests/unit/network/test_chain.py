"""Chains of dense matrices: the function they stand for, their radii, slopes and scale."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import settings as limit
from random_networks import networks

from certlip.base.errors import LimitExceeded, UnsupportedLayer
from certlip.network import LINEAR, Activation, Conv, Dense, Flatten, MaxPool, Network
from certlip.network import chain as chains
from certlip.network.chain import Chain, multiply, relu_chain

RNG = np.random.default_rng(5)


def dense(n_out: int, n_in: int) -> Dense:
    return Dense(f"d{n_out}", RNG.standard_normal((n_out, n_in)), np.zeros(n_out))


@limit(max_examples=60)
@given(networks())
def test_a_chain_holds_the_matrices_of_the_layers_exactly(network: Network) -> None:
    chain = Chain.of(network)
    linear = [
        oracle.rational(oracle.dense_matrix(layer, shape))
        for layer, shape in zip(network.layers, network.shapes, strict=False)
        if isinstance(layer, LINEAR)
    ]
    groups, between = [linear[0]], True
    for index, matrix in enumerate(linear[1:]):
        between = network_activation(network, index) != "identity"
        groups = [*groups, matrix] if between else [*groups[:-1], oracle.exact_product(matrix, groups[-1])]
    assert len(groups) == len(chain.weights)
    for exact, weight, radius in zip(groups, chain.weights, chain.radii, strict=True):
        allowed = np.zeros(weight.shape) if radius is None else radius
        for row, computed, room in zip(exact, weight, allowed, strict=True):
            assert all(
                abs(e - Fraction(float(c))) <= Fraction(float(r)) for e, c, r in zip(row, computed, room, strict=True)
            )


def network_activation(network: Network, index: int) -> str:
    return [layer.kind for layer in network.layers if isinstance(layer, Activation)][index]


@pytest.mark.parametrize("scales", [(1, 1), (1e-200, 1e-200), (1e-160, 1e-160), (1e150, 1e150), (1e150, 1e-321)])
def test_radii_of_a_product_cover_its_rounding_and_underflow(scales: tuple[float, float]) -> None:
    after, before = scales[0] * RNG.standard_normal((3, 20)), scales[1] * RNG.standard_normal((20, 2))
    product, radius = multiply(after, before)
    exact = oracle.exact_product(oracle.rational(after), oracle.rational(before))
    for i, j in np.ndindex(product.shape):
        assert abs(exact[i][j] - Fraction(float(product[i, j]))) <= Fraction(float(radius[i, j]))


def test_radii_of_factors_are_carried_along() -> None:
    after, before = RNG.standard_normal((2, 3)), RNG.standard_normal((3, 2))
    spread_after, spread_before = 0.1 * RNG.random((2, 3)), 0.1 * RNG.random((3, 2))
    product, radius = multiply(after, before, spread_after, spread_before)
    for signs in RNG.choice([-1.0, 1.0], size=(50, 12)):
        a, b = after + spread_after * signs[:6].reshape(2, 3), before + spread_before * signs[6:].reshape(3, 2)
        assert (np.abs(a @ b - product) <= radius).all()


def test_activations_before_and_after_the_matrices_make_the_scale() -> None:
    layers = (Activation("a", "sigmoid"), dense(3, 2), Activation("b", "relu"), dense(2, 3), Activation("c", "sigmoid"))
    chain = Chain.of(Network(layers, (2,)))
    assert chain.slopes == ((0.0, 1.0),)
    assert chain.scale >= 1 / 16


def test_activations_in_a_row_are_composed_outwards() -> None:
    layers = (
        dense(3, 2),
        Activation("a", "leaky_relu", 0.1),
        Activation("b", "leaky_relu", 0.3),
        Activation("c", "abs"),
        dense(2, 3),
    )
    exact = Fraction(0.1) * Fraction(0.3)
    ((low, high),) = Chain.of(Network((*layers[:3], layers[-1]), (2,))).slopes
    assert exact * Fraction(0.999999) <= Fraction(low) <= exact
    assert 1 <= high <= 1 + 1e-15
    ((low, high),) = Chain.of(Network(layers, (2,))).slopes
    assert -1 - 1e-15 <= low <= -1 < 1 <= high


def test_steep_and_inverting_leaky_slopes_are_covered() -> None:
    assert Activation("a", "leaky_relu", 3.0).slopes == (1.0, 3.0)
    assert Activation("a", "leaky_relu", -2.0).slopes == (-2.0, 1.0)
    assert Activation("a", "leaky_relu", 1.0).slopes == (1.0, 1.0)


def test_identities_and_flattening_leave_no_trace() -> None:
    layers = (Activation("i", "identity"), dense(3, 4), Activation("j", "leaky_relu", 1.0), dense(2, 3))
    chain = Chain.of(Network((Flatten("f"), *layers), (1, 2, 2)))
    assert len(chain.weights) == 1
    assert chain.slopes == ()
    assert chain.scale == 1.0


def test_a_network_without_matrices_is_an_identity() -> None:
    chain = Chain.of(Network((Activation("a", "sigmoid"), Flatten("f")), (1, 2, 1)))
    assert (chain.weights[0] == np.eye(2)).all()
    assert chain.scale == 0.25


def test_max_pooling_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedLayer, match="pool3: no bound for MaxPool"):
        Chain.of(Network((MaxPool("pool3", (2, 2), (2, 2)),), (1, 4, 4)))


def test_a_matrix_that_would_not_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "MAX_ENTRIES", 100)
    conv = Conv("conv7", np.ones((1, 1, 1, 1)), np.zeros(1))
    with pytest.raises(LimitExceeded, match="conv7") as refusal:
        Chain.of(Network((conv,), (1, 4, 4)))
    assert refusal.value.status == "memory_limit"


def test_slopes_bound_difference_quotients() -> None:
    for kind in ("relu", "leaky_relu", "tanh", "sigmoid", "abs", "identity"):
        for negative_slope in (0.01, -0.7, 2.5):
            layer = Activation("a", kind, negative_slope)
            low, high = layer.slopes
            for x, y in RNG.standard_normal((200, 2)) * 3:
                quotient = (oracle.activate(layer, x) - oracle.activate(layer, y)) / (x - y)
                assert low - 1e-9 <= quotient <= high + 1e-9


def test_given_matrices_make_a_relu_chain() -> None:
    chain = relu_chain([[[1, 2]], [[3]]])  # type: ignore[list-item]
    assert [w.shape for w in chain.weights] == [(1, 2), (1, 1)]
    assert chain.weights[0].dtype == np.float64
    assert math.prod(chain.slopes[0]) == 0
