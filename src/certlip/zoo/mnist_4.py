"""The four-layer MNIST network of Virmaux & Scaman 2018 (arXiv 1805.10965): strided convolutions only."""

from __future__ import annotations

from torch import nn


def make() -> nn.Sequential:
    """28x28x1 -> 12x12x32 -> 5x5x64 -> 2x2x128 -> 10, ReLU between."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(128, 10, 2),
        nn.Flatten(),
    )


def input_shape(**options: object) -> tuple[int, int, int]:
    return 1, 28, 28
