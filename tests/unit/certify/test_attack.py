"""The attack: its points lie where it says, and the exact network is wrong there."""

from __future__ import annotations

import numpy as np
import pytest
from classifiers import classifier, convolutional, pictures

from certlip.certify.attack import Effort, attack
from certlip.network import Dense, Network


def linear() -> Network:
    rng = np.random.default_rng(0)
    return Network((Dense("a", rng.standard_normal((3, 6)), rng.standard_normal(3)),), (6,))


def distances(network: Network, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """To the nearest point where a linear network is wrong."""
    layer = network.layers[0]
    assert isinstance(layer, Dense)
    outputs = images @ layer.weight.T + layer.bias
    found = np.full((len(images), 3), np.inf)
    for k, y in enumerate(labels):
        for j in {0, 1, 2} - {int(y)}:
            found[k, j] = (outputs[k, y] - outputs[k, j]) / np.linalg.norm(layer.weight[y] - layer.weight[j])
    return found.min(axis=1)


def test_on_a_linear_network_the_nearest_wrong_point_is_found_and_no_nearer_one() -> None:
    network = linear()
    images, labels = pictures(network, 40)
    exact = distances(network, images, labels)
    found = attack(network, images, labels, 2.0)
    assert (found >= exact * (1 - 1e-9)).all()
    assert np.isinf(found[exact > 2.0]).all()
    reached = exact < 1.9
    assert reached.sum() > 10
    assert np.isfinite(found[reached]).all()
    assert np.median(found[reached] / exact[reached]) < 1 + 1e-6


def test_what_is_misclassified_itself_has_distance_zero() -> None:
    network = classifier(1, 4, 6, 3)
    images, labels = pictures(network, 10, wrong=4)
    found = attack(network, images, labels, 1e-6)
    assert (found[:4] == 0).all()
    assert (found[4:] > 0).all()


def test_the_same_seed_finds_the_same() -> None:
    network = convolutional(2)
    images, labels = pictures(network, 20)
    first, again, other = (attack(network, images, labels, 1.0, Effort(10, 3, seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert np.isfinite(first).any()
    assert (first != other).any()


def test_more_effort_finds_no_less() -> None:
    network = classifier(3, 8, 30, 30, 4)
    images, labels = pictures(network, 60)
    little, much = (np.isfinite(attack(network, images, labels, 0.3, Effort(20, n))).sum() for n in (1, 6))
    assert 0 < little <= much


@pytest.mark.parametrize("radius", [1e-12, 1e12])
def test_a_radius_of_any_size_is_kept(radius: float) -> None:
    network = classifier(4, 4, 6, 3)
    images, labels = pictures(network, 12)
    found = attack(network, images, labels, radius, Effort(5, 2))
    assert (found[np.isfinite(found)] <= radius).all()
