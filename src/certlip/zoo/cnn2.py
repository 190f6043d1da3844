"""CNN2 of Sulehman & Mu 2024 (arXiv 2403.18613), for CIFAR-10: five unpadded 3x3 convolutions, two hidden layers."""

from __future__ import annotations

from torch import nn


def make(*, channels: int = 5, n_classes: int = 10) -> nn.Module:
    """32x32x3 -> 30x30xC -> 28x28xC -> 26x26xC -> 24x24xC -> 22x22xC -> 50 -> 100 -> classes, ReLU between."""
    layers: list[nn.Module] = []
    for c_in in [3] + [channels] * 4:
        layers += [nn.Conv2d(c_in, channels, 3), nn.ReLU()]
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(22 * 22 * channels, 50),
        nn.ReLU(),
        nn.Linear(50, 100),
        nn.ReLU(),
        nn.Linear(100, n_classes),
    )


def input_shape(**options: object) -> tuple[int, int, int]:
    return 3, 32, 32
