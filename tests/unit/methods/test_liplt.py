"""LipLT: the recursion against plain NumPy, rounding against rational arithmetic, its side of the truth."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import oracle
import pytest
from dense_networks import dense_network, random_weights
from hypothesis import given, settings
from random_networks import networks

from certlip.base.rounding import coarsen_up
from certlip.methods import liplt
from certlip.network import Activation, Dense, Network
from certlip.network.chain import Chain, frobenius_norm, multiply
from certlip.proof.matrix_norm import matrix_norm


@given(networks(max_hidden=7))
@settings(max_examples=60)
def test_certified_bound_is_never_below_the_constant(network):
    assert oracle.is_at_least(liplt.bound(network).value, network)


def published(weights, m: float, r: float) -> float:
    """L_i = m^i ||W_i ... W_0|| + sum_j r m^(i - j) ||W_i ... W_j|| L_{j-1}."""
    constants = []
    for i in range(len(weights)):
        product, total = np.eye(len(weights[i])), 0.0
        for j in range(i, -1, -1):
            product = product @ weights[j]
            before = r * constants[j - 1] if j else 1.0
            total += m ** (i - j) * np.linalg.norm(product, 2) * before
        constants.append(total)
    return float(constants[-1])


@pytest.mark.parametrize(
    ("kind", "m", "r"), [("relu", 0.5, 0.5), ("abs", 0, 1), ("leaky_relu", 0.505, 0.495), ("sigmoid", 0.125, 0.125)]
)
@pytest.mark.parametrize("sizes", [(4, 3), (4, 6, 3), (3, 5, 6, 4, 2)])
def test_it_is_the_published_recursion_but_for_the_margin(kind, m, r, sizes):
    weights = random_weights(1, *sizes)
    value = published(weights, m, r)
    assert value * (1 - 1e-12) <= liplt.bound(dense_network(*weights, kind=kind)).value <= value * (1 + 1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_at_most_the_product_of_norms(seed):
    weights = random_weights(seed, 5, 6, 6, 6, 3)
    assert liplt.bound(dense_network(*weights)).value <= np.prod([np.linalg.norm(w, 2) for w in weights]) * (1 + 1e-8)


def test_linear_layers_side_by_side_are_multiplied_first():
    first, second = np.diag([3.0, 0.5]), np.diag([0.5, 4.0])
    layers = tuple(Dense(f"d{i}", w, np.zeros(2)) for i, w in enumerate((first, second)))
    found = liplt.bound(Network(layers, (2,))).value
    assert 2.0 <= found <= 2.0 * (1 + 1e-8)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [1.0, 1e-160, 1e100])
def test_radius_of_a_product_covers_its_rounding(seed, scale):
    rng = np.random.default_rng(seed)
    a, b, c = (scale * rng.standard_normal((4, 4)) for _ in range(3))
    b *= 1 / scale
    first, first_radius = multiply(b, c)
    product, radius = multiply(a, first, None, first_radius)
    left, left_radius = multiply(a, b)
    other, other_radius = multiply(left, c, left_radius)
    a, b, c = map(oracle.rational, (a, b, c))
    exact = oracle.exact_product(a, oracle.exact_product(b, c))
    for found, around in ((product, radius), (other, other_radius)):
        for i in range(4):
            for j in range(4):
                assert abs(Fraction(float(found[i, j])) - exact[i][j]) <= Fraction(float(around[i, j]))
    assert np.all(radius <= 1e-12 * np.abs(product).max() + 1e-300)


def test_a_norm_with_radius_covers_every_matrix_within_it():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((4, 5))
    radius = np.abs(rng.standard_normal((4, 5))) * 1e-3
    found = matrix_norm(matrix, radius)
    for _ in range(50):
        within = matrix + radius * rng.choice([-1, 1], radius.shape)
        assert oracle.dominates(found, oracle.rational(within))


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_frobenius_norm_is_rounded_up_at_any_scale(scale):
    matrix = scale * np.random.default_rng(1).standard_normal((6, 7))
    exact = sum(Fraction(float(x)) ** 2 for x in matrix.ravel())
    found = Fraction(frobenius_norm(matrix))
    assert exact <= found**2 <= exact * Fraction(1 + 1e-12)
    assert frobenius_norm(np.zeros((2, 2))) == 0.0


@pytest.mark.parametrize("x", [0.0, 1.0, 1 / 3, 123456.789123456, 2.5e-310, 1.7e300])
def test_coarsening_never_goes_down(x):
    assert x <= coarsen_up(x) <= x * (1 + 1e-8) + 1e-320
    if x == 0 or x > 1e-300:
        assert coarsen_up(coarsen_up(x)) == coarsen_up(x)


def test_activations_at_the_ends_count_with_their_slope():
    layers = Activation("in", "sigmoid"), Dense("d", np.eye(2), np.zeros(2)), Activation("out", "sigmoid")
    network = Network(layers, (2,))
    assert 0.0625 <= Chain.of(network).scale <= 0.0625 * (1 + 1e-15)
    assert 0.0625 <= liplt.bound(network).value <= 0.0625 * (1 + 1e-8)


def test_radius_of_a_product_covers_the_radii_of_both_factors():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    around_a, around_b = 1e-3 * np.ones_like(a), 1e-4 * np.ones_like(b)
    product, radius = multiply(a, b, around_a, around_b)
    for sign_a, sign_b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        assert (np.abs((a + sign_a * around_a) @ (b + sign_b * around_b) - product) <= radius).all()
    assert (multiply(a, b, around_a)[1] >= around_a @ np.abs(b)).all()
    assert (multiply(a, b, None, around_b)[1] >= np.abs(a) @ around_b).all()


def test_radius_of_a_product_covers_underflow():
    tiny, huge = np.array([[2.0**-600]]), np.array([[2.0**600]])
    product, radius = multiply(tiny, tiny)
    assert product == 0.0
    assert radius > 0.0
    product, radius = multiply(huge, product, None, radius)
    product, radius = multiply(huge, product, None, radius)
    assert radius >= 1.0


def test_radius_of_a_product_covers_rounding_among_denormal_numbers():
    rng = np.random.default_rng(0)
    after, before = 2.0**1000 * rng.standard_normal((6, 6)), 2.0**-1050 * rng.standard_normal((6, 6))
    product, radius = multiply(after, before)
    exact = oracle.exact_product(oracle.rational(after), oracle.rational(before))
    distances = [abs(Fraction(float(product[i, j])) - exact[i][j]) for i in range(6) for j in range(6)]
    assert max(distances) > 0
    assert all(d <= Fraction(float(r)) for d, r in zip(distances, radius.ravel(), strict=True))
