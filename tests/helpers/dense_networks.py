"""Chains of dense layers, and intervals of slopes to try them with."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from certlip.network import Activation, Dense, Network

SLOPES = [(0.0, 1.0), (-1.0, 1.0), (0.1, 1.0), (0.0, 0.25), (-0.5, 1.0), (0.4, 3.0)]


def dense_network(*weights: np.ndarray, kind: str = "relu") -> Network:
    layers = []
    for i, weight in enumerate(weights):
        layers += [Dense(f"dense{i}", weight, np.zeros(len(weight))), Activation(f"act{i}", kind)]
    return Network(tuple(layers[:-1]), (weights[0].shape[1],))


def random_weights(seed: int, *sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, m)) for m, n in pairwise(sizes)]
