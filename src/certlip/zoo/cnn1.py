"""CNN1 of Sulehman & Mu 2024 (arXiv 2403.18613), for MNIST: two unpadded 5x5 convolutions, 50 hidden units."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def make(*, channels: int = 5, kernels: Sequence[int] = (5, 5)) -> nn.Module:
    """28x28x1 -> 24x24xC -> 20x20xC -> 50 -> 10, ReLU between; with kernels (5, 9) 16x16xC in place of 20x20xC."""
    side = 30 - sum(kernels)
    return nn.Sequential(
        nn.Conv2d(1, channels, kernels[0]),
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernels[1]),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(side * side * channels, 50),
        nn.ReLU(),
        nn.Linear(50, 10),
    )


def input_shape(**options: object) -> tuple[int, int, int]:
    return 1, 28, 28
