"""The known answers of the zoo, against difference quotients and slow truth."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from certlip import zoo
from certlip.methods import product
from certlip.pytorch.export import export_network

KNOWN = [
    ("orthogonal", {}),
    ("orthogonal", {"n_layers": 5}),
    ("linear", {}),
    ("diagonal", {}),
    ("diagonal", {"image_size": [2, 3]}),
    ("absolute", {}),
    ("pooled", {}),
    ("pooled", {"kernel": 2, "stride": 1, "image_size": [4, 4]}),
    ("pooled", {"kernel": 2, "stride": 2}),
    ("pooled", {"kernel": 3, "stride": 1, "image_size": [3, 7]}),
    ("enumerated", {"n_inputs": 4, "n_hidden": 4, "n_outputs": 2}),
    ("enumerated", {"n_inputs": 5, "n_hidden": 4, "draw": 3}),
]


def make(architecture, options):
    return export_network(zoo.make(architecture, 0, **options), zoo.input_shape(architecture, **options))


@pytest.mark.parametrize(("architecture", "options"), KNOWN)
def test_weights_are_the_same_each_time_and_those_of_any_seed(architecture, options):
    first, second = (zoo.make(architecture, seed, **options).state_dict() for seed in (0, 1))
    assert first.keys() == second.keys()
    assert all((first[key] == second[key]).all() for key in first)


def test_every_known_answer_is_tested_here():
    assert {name for name, _ in KNOWN} == {name for name in zoo.names() if zoo.known_constant(name) is not None}


@pytest.mark.parametrize(("architecture", "options"), KNOWN)
def test_the_known_constant_is_attained_between_two_points(architecture, options):
    network, known = make(architecture, options), zoo.known_constant(architecture, **options)
    assert best_quotient(network) >= known * (1 - 1e-6)


@pytest.mark.parametrize(("architecture", "options"), KNOWN)
def test_no_difference_quotient_exceeds_the_known_constant(architecture, options):
    network, known = make(architecture, options), zoo.known_constant(architecture, **options)
    assert best_quotient(network) <= known * (1 + 1e-6)


@pytest.mark.parametrize(("architecture", "options"), [k for k in KNOWN if k[0] in ("absolute", "enumerated")])
def test_the_known_constant_is_that_of_the_linear_regions(architecture, options):
    network, known = make(architecture, options), zoo.known_constant(architecture, **options)
    assert known * (1 - 1e-10) <= oracle.attained_norm(network) <= known * (1 + 1e-10)
    assert not oracle.is_at_least(known * (1 - 1e-10), network)


def test_the_product_of_norms_is_not_the_answer_where_layers_interact():
    for architecture, ratio in (("linear", 6.0), ("diagonal", 6.0), ("absolute", 2.0)):
        known = zoo.known_constant(architecture)
        assert product.bound(make(architecture, {})).value > 0.99 * ratio * known


def best_quotient(network, n_points: int = 200) -> float:
    """Largest |f(x + h v) - f(x)| / h over random and peaked points x and the best direction v at x."""
    rng, best, h = np.random.default_rng(0), 0.0, 1e-4
    shape = network.input_shape
    for k in range(n_points):
        x = rng.standard_normal(shape) * (0.1 if k % 2 else 1.0)
        if k % 3 == 0:
            x.flat[rng.integers(x.size)] += 10.0
        centre = oracle.forward(network, x).ravel()
        steps = h * np.eye(x.size).reshape(-1, *shape)
        jacobian = np.stack([(oracle.forward(network, x + s).ravel() - centre) / h for s in steps], axis=1)
        direction = np.linalg.svd(jacobian)[2][0].reshape(shape)
        difference = oracle.forward(network, x + h * direction).ravel() - centre
        best = max(best, float(np.linalg.norm(difference)) / h)
    return best
