"""Random small networks of every layer option, degenerate weights among them: no certified bound below the truth, none
below a lower bound.

20 networks here, 2000 new ones with ``make nightly``.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import oracle
from hypothesis import HealthCheck, given, settings
from nightly import examples
from random_networks import PIECEWISE_LINEAR, networks, random_network

import certlip
from certlip.base.record import Kind
from certlip.methods import names
from certlip.network import Activation, MaxPool, Network

KINDS = (*PIECEWISE_LINEAR, "prelu", "tanh", "sigmoid")

CHOICES = {
    "dcp": [{"merge": m} for m in ("sum", "cover", "weighted")] + [{"merge": "folded", "chain": c} for c in (0, 1)],
    "seqlip": [{"mode": "exact"}],
    "torus": [{"rtol": 0.1}],
}
"""Options under which a method is tried, where its defaults are not all there is to try."""


@cache
def certified_methods() -> list[tuple[str, dict]]:
    """Every method, with options, that certifies a network of three small layers."""
    tried = [(name, options) for name in names() for options in CHOICES.get(name, [{}])]
    network = random_network(1, kinds=("relu",), max_linear=3)
    return [(name, o) for name, o in tried if certlip.bound(network, method=name, **o).kind == Kind.CERTIFIED]


@settings(max_examples=examples(20), suppress_health_check=list(HealthCheck))
@given(network=networks(max_linear=5, kinds=KINDS, pooled=True, degenerate=True))
def test_no_certified_bound_of_a_random_network_is_below_the_truth(network: Network) -> None:
    lower = certlip.bound(network, method="lower", n_points=8, n_starts=1, n_steps=0).value
    least = floor(network)
    for name, options in certified_methods():
        record = certlip.bound(network, method=name, **options)
        if record.value is None:
            assert record.reason
            continue
        assert certlip.verify(record.certificate), (name, options)
        assert record.value >= least * (1 - 1e-9), (name, options)
        assert lower is None or record.value >= lower, (name, options)
        if is_piecewise_linear(network):
            assert oracle.is_at_least(record.value, network), (name, options)


def is_piecewise_linear(network: Network) -> bool:
    """Whether the oracle can enumerate the regions."""
    kinds = [layer.kind for layer in network.layers if isinstance(layer, Activation)]
    return set(kinds) <= set(PIECEWISE_LINEAR) and not any(isinstance(layer, MaxPool) for layer in network.layers)


def floor(network: Network) -> float:
    """Largest Jacobian norm at random points, found by walking through the layers: at most the constant but for
    rounding."""
    rng = np.random.default_rng(0)
    points = [rng.standard_normal(network.input_shape) * 10.0**size for size in (-2, -1, 0, 0, 1, 2)]
    return max(float(np.linalg.norm(jacobian_at(network, point), 2)) for point in points)


def jacobian_at(network: Network, x: np.ndarray) -> np.ndarray:
    """Jacobian (n_out, n_in) at a point where no activation has a kink and no pooling a tie."""
    product = np.eye(x.size)
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, Activation):
            slopes = [_slope(*pair) for pair in zip(oracle.neurons(layer, shape), x.ravel().tolist(), strict=True)]
            product = np.array(slopes)[:, None] * product
        elif isinstance(layer, MaxPool):
            # the index of each window's largest entry: the pooling of the entries' ranks
            ranks = np.argsort(np.argsort(x.ravel(), kind="stable"), kind="stable").astype(float)
            largest = oracle.forward(Network((layer,), shape), ranks.reshape(shape))
            product = product[np.argsort(ranks)[largest.ravel().astype(int)]]
        else:
            product = oracle.dense_matrix(layer, shape) @ product
        x = oracle.forward(Network((layer,), shape), x)
    return product


def _slope(layer: Activation, y: float) -> float:
    if layer.kind == "tanh":
        return 1 - math.tanh(y) ** 2
    if layer.kind == "sigmoid":
        return oracle.activate(layer, y) * oracle.activate(layer, -y)
    return (oracle.activate(layer, y) - oracle.activate(layer, 0.0)) / y
