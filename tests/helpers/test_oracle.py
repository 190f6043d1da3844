"""The slow truth against things that are known without it."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from random_networks import networks, random_network, random_pool

from certlip.network import Activation, Conv, Dense, MaxPool, Network


@given(networks(kinds=("relu", "leaky_relu", "abs", "tanh", "sigmoid", "identity")))
@settings(max_examples=60)
def test_the_fast_forward_map_equals_the_one_by_definition(network):
    x = np.random.default_rng(0).standard_normal(network.input_shape)
    slow = oracle.forward(network, x)
    np.testing.assert_allclose(network.forward(x[None])[0], slow, rtol=1e-10, atol=1e-12 * abs(slow).max())


@given(networks())
@settings(max_examples=40)
def test_the_sparse_matrix_equals_the_one_by_definition(network):
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, Conv | Dense):
            np.testing.assert_array_equal(layer.matrix(shape).toarray(), oracle.dense_matrix(layer, shape))


@pytest.mark.parametrize("seed", range(30))
def test_pooling_equals_the_one_by_definition(seed):
    shape = (2, 5, 4)
    network = Network((random_pool(seed, shape),), shape)
    x = np.random.default_rng(seed).standard_normal(shape)
    np.testing.assert_array_equal(network.forward(x[None])[0], oracle.forward(network, x))


@pytest.mark.parametrize("seed", range(25))
def test_sampled_attained_and_envelope_are_in_this_order(seed):
    network = random_network(seed, max_hidden=6)
    attained = oracle.attained_norm(network)
    assert oracle.sampled_quotient(network, seed) <= attained * (1 + 1e-9)
    assert attained <= oracle.largest_pattern_norm(network) * (1 + 1e-12)


def test_the_constant_of_the_absolute_value_is_one_and_its_envelope_is_not():
    layers = (
        Dense("split", np.array([[1.0], [-1.0]]), np.zeros(2)),
        Activation("relu", "relu"),
        Dense("sum", np.array([[1.0, 1.0]]), np.zeros(1)),
        Activation("abs", "abs"),
    )
    network = Network(layers, (1,))
    assert oracle.attained_norm(network) == 1.0
    reluless = Network((layers[0], layers[1], Dense("difference", np.array([[1.0, -1.0]]), np.zeros(1))), (1,))
    assert oracle.attained_norm(reluless) == 1.0
    assert oracle.largest_pattern_norm(reluless) == 2.0


def test_the_exact_check_sees_one_unit_in_the_last_place():
    network = Network((Dense("w", np.array([[3.0, 4.0], [0.0, 0.0]]), np.zeros(2)),), (2,))
    assert oracle.is_at_least(5.0, network)
    assert not oracle.is_at_least(math.nextafter(5.0, 0.0), network)


def test_a_pattern_no_point_takes_is_not_a_region():
    layers = (
        Dense("w", np.array([[1.0], [1.0]]), np.array([0.0, 1.0])),
        Activation("relu", "relu"),
        Dense("v", np.array([[1.0, -1.0]]), np.zeros(1)),
    )
    network = Network(layers, (1,))
    assert ((1.0, 0.0),) not in oracle.regions(network)
    assert len(oracle.regions(network)) == 3


def test_overlapping_pooling_is_steeper_than_one():
    pool = Network((MaxPool("pool", (2, 2), (1, 1)),), (1, 3, 3))
    peak = np.zeros((1, 3, 3))
    peak[0, 1, 1] = 1.0
    assert np.linalg.norm(oracle.forward(pool, peak)) == 2.0
