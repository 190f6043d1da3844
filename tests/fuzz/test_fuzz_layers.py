"""Layers of any scale against exact arithmetic: their constants, what holds near their norm, and Gram iteration.

Weights of 1e-308 to 1e308, subnormal, zero and equal ones among them. 400 layers here, 20,000 others with
``make nightly``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exact import Exact, dominates

from certlip.network import Array, Conv, Dense, Shape
from certlip.proof import norms
from certlip.proof.gram_iteration import Parts, gram_norm, largest_norm

N_LAYERS, N_NIGHTLY = 400, 20_000


def test_no_constant_of_a_layer_of_any_scale_is_below_its_norm(record_property: Any) -> None:
    judge(np.random.default_rng(0), N_LAYERS)
    record_property("layers", N_LAYERS)


@pytest.mark.nightly
def test_no_constant_of_very_many_layers_is_below_its_norm(record_property: Any) -> None:
    seed = np.random.SeedSequence().entropy
    record_property("seed", seed)
    judge(np.random.default_rng(seed), N_NIGHTLY)


def judge(rng: np.random.Generator, n_layers: int) -> None:
    held = 0
    for _ in range(n_layers):
        layer, shape = random_layer(rng)
        matrix = layer.matrix(shape).toarray()
        exact = Exact.of(matrix)
        constant = norms.layer_constant(layer, shape)
        assert dominates(constant, exact), (layer, shape)
        assert norms.holds(layer, shape, constant), (layer, shape)
        if isinstance(layer, Conv):
            assert dominates(norms.torus_constant(layer, shape), exact), (layer, shape)
        # with the bits below its norm, or some of the bits of subnormal numbers
        for relative in 10.0 ** rng.uniform(-17, 0, 6) * rng.choice([-1, 1], 6):
            claim = constant * (1 + relative)
            if norms.holds(layer, shape, claim):
                held += 1
                assert dominates(claim, exact), (layer, shape, claim)
        for n_iter in (0, 1, 7):
            assert dominates(gram_norm(Parts(matrix[None]), n_iter), exact), (layer, shape, n_iter)
        assert dominates(largest_norm([Parts(matrix[None])]), exact), (layer, shape)
    assert held > n_layers


def random_layer(rng: np.random.Generator) -> tuple[Dense | Conv, Shape]:
    if rng.random() < 0.5:
        n_out, n_in = rng.integers(1, 6, 2)
        return Dense("d", random_weight(rng, (n_out, n_in)), np.zeros(n_out)), (int(n_in),)
    c_out, c_in = rng.integers(1, 3, 2)
    weight = random_weight(rng, (c_out, c_in, 1, rng.integers(1, 4)))
    pad, stride = rng.integers(0, 2), rng.integers(1, 3)
    conv = Conv("c", weight, np.zeros(c_out), stride=(1, int(stride)), padding=(0, 0, int(pad), int(pad)))
    return conv, (int(c_in), 1, int(rng.integers(3, 5)))


def random_weight(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    weight = rng.standard_normal(shape)
    match rng.integers(6):
        case 0:
            weight = np.full(shape, weight.flat[0])
        case 1:
            return np.ldexp(rng.integers(-9, 10, shape).astype(float), rng.integers(-1074, 1000, shape))
        case 2:
            return np.ldexp(rng.integers(-9, 10, shape).astype(float), -1074)
        case 3:
            weight = weight * (rng.random(shape) < 0.5)
    return weight * 10.0 ** rng.choice([0.0, rng.uniform(-300, 300), rng.uniform(-160, -150)])
