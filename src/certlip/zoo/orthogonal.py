"""Orthogonal layers with ReLU between: the Lipschitz constant is 1, and so is every norm.

Each layer is a Hadamard matrix over the square root of its order, orthogonal without rounding: a strided convolution
that shuffles 2x2 pixels into channels, 1x1 convolutions, a dense layer. The biases keep all neurons active around zero,
so 1 is attained.
"""

from __future__ import annotations

import torch
from torch import nn


def make(*, n_layers: int = 3) -> nn.Module:
    """4x4x1 -> 2x2x4 -> ... -> 16; n_layers: all of them, the first a 2x2 convolution and the last dense."""
    if n_layers < 2:
        raise ValueError("n_layers must be at least 2")
    layers: list[nn.Module] = [nn.Conv2d(1, 4, 2, stride=2), nn.ReLU()]
    for _ in range(n_layers - 2):
        layers += [nn.Conv2d(4, 4, 1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 16))
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            order = layer.weight.shape[0]
            layer.weight.data = (hadamard(order) / order**0.5).reshape(layer.weight.shape)
            layer.bias = nn.Parameter(torch.ones(order))
    return network


def input_shape(**options: object) -> tuple[int, int, int]:
    return 1, 4, 4


def known_constant(**options: object) -> float:
    """The exact Lipschitz constant."""
    return 1.0


def hadamard(order: int) -> torch.Tensor:
    """Sylvester's matrix of signs (order, order); order: a power of two."""
    matrix = torch.ones(1, 1)
    while len(matrix) < order:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    return matrix
