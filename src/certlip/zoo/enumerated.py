"""One hidden ReLU layer small enough that its constant is found by trying every pattern of active neurons.

With no more neurons than inputs and no biases every pattern is taken by some input: the constant is the largest norm.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn


def make(*, n_inputs: int = 8, n_hidden: int = 8, n_outputs: int = 4, draw: int = 0) -> nn.Module:
    """Normal weights drawn from the seed `draw`."""
    if not 1 <= n_hidden <= min(n_inputs, 16):
        raise ValueError("n_hidden must be at most n_inputs, and at most 16")
    network = nn.Sequential(
        nn.Linear(n_inputs, n_hidden, bias=False), nn.ReLU(), nn.Linear(n_hidden, n_outputs, bias=False)
    )
    for layer, weight in zip((network[0], network[2]), _weights(n_inputs, n_hidden, n_outputs, draw), strict=True):
        layer.weight.data = torch.from_numpy(weight)
    return network


def input_shape(*, n_inputs: int = 8, **options: object) -> tuple[int]:
    return (n_inputs,)


def known_constant(*, n_inputs: int = 8, n_hidden: int = 8, n_outputs: int = 4, draw: int = 0) -> float:
    """The Lipschitz constant to a relative accuracy of 1e-12, rounded down."""
    before, after = (w.astype(np.float64) for w in _weights(n_inputs, n_hidden, n_outputs, draw))
    patterns = itertools.product((0.0, 1.0), repeat=n_hidden)
    return max(float(np.linalg.norm((after * np.array(p)) @ before, 2)) for p in patterns) * (1 - 1e-12)


def _weights(n_inputs: int, n_hidden: int, n_outputs: int, draw: int) -> list[np.ndarray]:
    rng = np.random.default_rng(draw)
    sizes = (n_hidden, n_inputs), (n_outputs, n_hidden)
    return [rng.standard_normal(size, dtype=np.float32) / np.float32(size[1] ** 0.5) for size in sizes]
