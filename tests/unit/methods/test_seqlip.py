"""SeqLip: the exact search against enumeration, the operators against matrices, the greedy value as what it is."""

from __future__ import annotations

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from random_networks import networks, random_network, random_pool

from certlip.base.errors import LimitExceeded
from certlip.base.record import Kind
from certlip.methods import product, seqlip
from certlip.methods.seqlip import search
from certlip.methods.seqlip.factors import factorise, residual
from certlip.methods.seqlip.greedy import ascend, leading_pair
from certlip.methods.seqlip.operator import compose
from certlip.methods.seqlip.search import largest_gated_norm
from certlip.network import Activation, Conv, Dense, Flatten, MaxPool, Network
from certlip.network.chain import Chain

SLOPES = [(0.0, 1.0), (-1.0, 1.0), (0.1, 1.0), (0.0, 0.25), (0.3, 2.5)]


def pair(seed: int, n: int, spread: float = 0.0):
    rng = np.random.default_rng(seed)
    p, q = rng.integers(1, 6, 2)
    a, b = rng.standard_normal((p, n)), rng.standard_normal((n, q))
    return a * 10.0 ** rng.uniform(-spread, spread, n), b * 10.0 ** rng.uniform(-spread, spread, (n, 1))


def enumerated(a, b, slopes) -> tuple[float, np.ndarray]:
    gates = [np.array(g) for g in itertools.product(slopes, repeat=a.shape[1])]
    return max(((float(np.linalg.norm((a * g) @ b, 2)), g) for g in gates), key=lambda found: found[0])


def test_many_equal_singular_values_have_a_leading_pair() -> None:
    """Of orthogonal layers with some gates closed; Lanczos alone does not converge there."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((400, 400)))[0] for _ in range(2))
    matrix = (left * np.r_[1 - 1e-14 * np.arange(200), np.linspace(1, 0, 200)]) @ right
    value, u, v = leading_pair(matrix)
    assert value == pytest.approx(1, rel=1e-9)
    assert u @ matrix @ v == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize(("seed", "n", "spread"), [(0, 1, 0), (1, 3, 0), (2, 6, 3), (3, 8, 0), (4, 8, 6)])
def test_the_exact_search_is_at_the_largest_vertex_and_never_below_it(slopes, seed, n, spread):
    a, b = pair(seed, n, spread)
    value, gates = enumerated(a, b, slopes)
    found = largest_gated_norm(a, b, slopes)
    exact = oracle.exact_product(oracle.rational(a), _gated(gates, b))
    assert oracle.dominates(found, exact)
    assert found <= value * (1 + 1e-6)


def _gated(gates, b):
    return [[g * x for x in row] for g, row in zip(oracle.rational(gates[None])[0], oracle.rational(b), strict=True)]


@pytest.mark.parametrize("scale", [1e-6, 1e6, 2.0**-300])
def test_the_exact_search_does_not_mind_the_scale(scale):
    a, b = pair(5, 6)
    value, _ = enumerated(a, b, (0.0, 1.0))
    assert value * scale * (1 - 1e-12) <= largest_gated_norm(a * scale, b, (0.0, 1.0)) <= value * scale * (1 + 1e-6)


@pytest.mark.parametrize("n", [1, 100, 3000])
def test_many_gates_whose_products_underflow_count_one_by_one(n):
    a, b = np.full((1, n), 2.0**-537), np.full((n, 1), 0.49 * 2.0**-537)
    exact = n * Fraction(float(a[0, 0])) * Fraction(float(b[0, 0]))
    assert Fraction(largest_gated_norm(a, b, (0.0, 1.0))) >= exact
    assert Fraction(largest_gated_norm(a, b, (0.0, 1e9))) >= 10**9 * exact


@pytest.mark.parametrize("small", [1e-300, 1e-310, 2.0**-1074])
def test_entries_that_fall_below_the_smallest_double_when_balanced_are_counted(small):
    a, b = np.array([[1.0, small], [small, 1.0]]), np.array([[2.0**-40, small], [2.0**40, 2.0**40]])
    *_, lost = search._balance(a, b)
    assert lost > 0 or small == 1e-300
    value, gates = enumerated(a, b, (0.0, 1.0))
    found = largest_gated_norm(a, b, (0.0, 1.0))
    assert oracle.dominates(found, oracle.exact_product(oracle.rational(a), _gated(gates, b)))
    assert found <= value * (1 + 1e-6)


def test_dead_gates_and_empty_pairs_are_no_trouble():
    a, b = pair(6, 5)
    a[:, 1], b[3] = 0.0, 0.0
    b[4] *= 1e-200
    value, _ = enumerated(a, b, (0.0, 1.0))
    assert value * (1 - 1e-14) <= largest_gated_norm(a, b, (0.0, 1.0)) <= value * (1 + 1e-6)
    assert largest_gated_norm(np.zeros((2, 3)), np.ones((3, 2)), (0.0, 1.0)) < 1e-300
    disjoint = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0]])
    assert 0 <= largest_gated_norm(*disjoint, (0.0, 1.0)) < 1e-300


def test_twenty_gates_are_searched_in_far_fewer_than_all_patterns(monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((10, 20)), rng.standard_normal((20, 20))
    judged = []
    original = search._Tree.is_below

    def counting(tree, rho, centres, radii):
        judged.append(len(centres))
        return original(tree, rho, centres, radii)

    monkeypatch.setattr(search._Tree, "is_below", counting)
    found = largest_gated_norm(a, b, (0.0, 1.0))
    assert sum(judged) < 20_000
    assert found >= ascend(a, b, (0.0, 1.0), 50, seed=3)[0]


def test_a_node_is_never_called_below_what_one_of_its_vertices_attains():
    rng = np.random.default_rng(2)
    for seed in range(20):
        a, b, *_ = search._balance(*pair(seed + 10, 5))
        tree = search._Tree.of(a, b, (0.0, 1.0), None)
        value, _ = enumerated(a, b, (0.0, 1.0))
        centres, radii = tree.root
        assert not tree.is_below(value**2 * (1 - 1e-12), centres, radii)[0]
        fixed = rng.integers(0, 2, 5).astype(float)
        norm = np.linalg.norm((a * fixed) @ b, 2)
        assert not tree.is_below(norm**2, fixed[None], np.zeros((1, 5)))[0]
        assert tree.is_below(max(norm, 1e-3) ** 2 * (1 + 1e-6), fixed[None], np.zeros((1, 5)))[0]


@given(networks(max_hidden=6))
@settings(max_examples=25)
def test_the_exact_value_is_never_below_the_constant(network):
    found = seqlip.bound(network, mode="exact")
    assert found.kind is Kind.CERTIFIED
    assert oracle.is_at_least(found.value, network)


@pytest.mark.parametrize("seed", range(12))
def test_one_hidden_layer_is_met_to_the_tolerance(seed):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((6, 7)), rng.standard_normal((3, 6))
    layers = Dense("w", weights[0], np.zeros(6)), Activation("relu", "relu"), Dense("v", weights[1], np.zeros(3))
    network = Network(layers, (7,))
    truth = oracle.largest_pattern_norm(network)
    assert truth * (1 - 1e-14) <= seqlip.bound(network, mode="exact").value <= truth * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(15))
def test_the_greedy_value_is_at_most_the_exact_one_and_that_at_most_the_product(seed):
    network = random_network(seed, scales=(1.0,))
    exact, greedy = seqlip.bound(network, mode="exact").value, seqlip.bound(network)
    assert greedy.kind is Kind.ESTIMATE
    assert greedy.certificate is None
    assert greedy.value <= exact
    assert exact <= product.bound(network).value * (1 + 1e-6) + 1e-12


def test_greedy_seqlip_can_lie_below_the_constant():
    assert any(
        seqlip.bound(network, rank=1, n_starts=1).value < 0.9 * oracle.attained_norm(network)
        for network in (random_network(seed, scales=(1.0,)) for seed in range(20))
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_full_rank_by_operators_gives_what_matrices_give(seed):
    network = random_network(seed, scales=(1.0,))
    by_matrix, by_operator = seqlip.bound(network).value, seqlip.bound(network, rank=10**6).value
    assert by_operator == pytest.approx(by_matrix, rel=1e-8, abs=1e-300)


@pytest.mark.parametrize("seed", range(10))
def test_residual_covers_a_wrong_factor(seed):
    chain = Chain.of(random_network(seed, scales=(1.0,)))
    factors = factorise(chain.weights, None, 0)
    assert residual(chain, factors) <= 1e-10 * math.prod(1 + np.linalg.norm(w) for w in chain.weights)
    factors[0].f[...] *= 1 + 1e-3
    moved = 1e-3 * np.linalg.norm(chain.weights[0], 2)
    others = math.prod(np.linalg.norm(w, 2) for w in chain.weights[1:])
    assert residual(chain, factors) >= moved * others * (1 - 1e-9)


def test_convolution_operators_equal_their_matrices():
    rng = np.random.default_rng(0)
    for stride, padding, dilation, groups in itertools.product(
        ((1, 1), (2, 3)), ((0, 0, 0, 0), (1, 2, 0, 3)), ((1, 1), (2, 1)), (1, 2)
    ):
        weight = rng.standard_normal((4, 2 // groups, 3, 2))
        conv, shape = Conv("c", weight, np.zeros(4), stride, padding, dilation, groups), (2, 6, 5)
        matrix, applied = oracle.dense_matrix(conv, shape), compose([(conv, shape)])
        x, y = rng.standard_normal(matrix.shape[1]), rng.standard_normal(matrix.shape[0])
        np.testing.assert_allclose(applied @ x, matrix @ x, atol=1e-12)
        np.testing.assert_allclose(applied.H @ y, matrix.T @ y, atol=1e-12)


def test_max_pooling_cuts_the_network_and_counts_with_its_constant():
    rng = np.random.default_rng(3)
    conv = Conv("conv", rng.standard_normal((2, 1, 2, 2)), np.zeros(2))
    head = (Activation("relu", "relu"), Flatten("flatten"))
    dense = Dense("dense", rng.standard_normal((2, 8)), np.zeros(2))
    network = Network((conv, MaxPool("pool", (2, 2), (1, 1)), *head, dense), (1, 4, 4))
    found = seqlip.bound(network, mode="exact").value
    norms = [np.linalg.norm(oracle.dense_matrix(conv, (1, 4, 4)), 2), 2.0, np.linalg.norm(dense.weight, 2)]
    assert math.prod(norms) * (1 - 1e-12) <= found <= math.prod(norms) * (1 + 1e-6)
    assert found >= oracle.sampled_quotient(network, 0)


@pytest.mark.parametrize("seed", range(6))
def test_pooled_networks_are_never_undercut(seed):
    conv = Conv("conv", np.random.default_rng(seed).standard_normal((1, 1, 1, 1)), np.zeros(1))
    network = Network((conv, random_pool(seed, (1, 3, 3))), (1, 3, 3))
    assert seqlip.bound(network, mode="exact").value >= oracle.sampled_quotient(network, seed, n=200)


def test_too_many_gates_are_refused_in_words():
    rng = np.random.default_rng(0)
    layers = Dense("w", rng.standard_normal((9, 2)), np.zeros(9)), Activation("relu", "relu")
    network = Network((*layers, Dense("v", rng.standard_normal((2, 9)), np.zeros(2))), (2,))
    with pytest.raises(LimitExceeded, match="9 neurons: the exact search takes 8"):
        seqlip.bound(network, mode="exact", max_gates=8)


def test_the_exact_search_keeps_its_time_limit():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((60, 60)), rng.standard_normal((60, 60))
    with pytest.raises(LimitExceeded, match="did not end in time"):
        largest_gated_norm(a, b, (0.0, 1.0), deadline=time.monotonic() + 0.5)


def test_no_dense_matrix_of_a_large_convolution_is_made():
    conv = Conv("conv", np.random.default_rng(0).standard_normal((8, 3, 3, 3)), np.zeros(8), padding=(1, 1, 1, 1))
    network = Network((conv, Activation("relu", "relu"), Conv("last", np.ones((1, 8, 1, 1)), np.zeros(1))), (3, 64, 64))
    assert math.prod(network.shapes[0]) * math.prod(network.shapes[1]) > 10**8
    with pytest.raises(LimitExceeded, match="conv: a dense"):
        seqlip.bound(network)
    assert seqlip.bound(network, rank=3, n_starts=1).value > 0
