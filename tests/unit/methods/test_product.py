"""The product of layer norms with dense layers that follow each other taken as one."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from classifiers import classifier, convolutional

import certlip
from certlip.certify.margins import with_row
from certlip.network import Dense, Network


@pytest.mark.parametrize("seed", range(3))
def test_behind_a_network_the_last_factor_is_the_norm_of_a_difference(seed: int) -> None:
    network = classifier(seed, 6, 9, 4)
    first, last = network.layers[0].weight, network.layers[2].weight
    found = certlip.margins(network, method="product", joined=True)
    for (i, j), margin in found.items():
        lip_naive = np.linalg.norm(first, 2) * np.linalg.norm(last[i] - last[j])
        assert lip_naive * (1 - 1e-12) <= margin.value <= lip_naive * (1 + 1e-6)
        assert oracle.is_at_least(margin.value, with_row(network, (i, j)))
        assert all(map(certlip.verify, margin.certificates))


def test_it_is_never_above_the_plain_product_and_below_it_for_pairs() -> None:
    network = convolutional(1, 4)
    joined, plain = (certlip.margins(network, method="product", joined=way) for way in (True, False))
    assert all(joined[pair].value < plain[pair].value for pair in itertools.combinations(range(4), 2))
    assert certlip.bound(network, method="product", joined=True).value <= certlip.bound(network, method="product").value


def test_of_rows_that_nearly_cancel_the_rounding_is_counted() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal(6)
    last = np.stack([first, first * (1 + 1e-4 * rng.standard_normal(6))])
    network = Network((Dense("a", rng.standard_normal((6, 4)), np.zeros(6)), Dense("b", last, np.zeros(2))), (4,))
    value = certlip.margins(network, method="product", joined=True)[0, 1].value
    assert oracle.is_at_least(value, with_row(network, (0, 1)))


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_powers_of_two_in_the_weights_are_taken_out(scale: float) -> None:
    layers = (Dense("a", scale * np.eye(3), np.zeros(3)), Dense("b", np.ones((1, 3)) / scale, np.zeros(1)))
    record = certlip.bound(Network(layers, (3,)), method="product", joined=True)
    assert np.sqrt(3) <= record.value <= np.sqrt(3) * (1 + 1e-6)
    assert certlip.verify(record.certificate)
