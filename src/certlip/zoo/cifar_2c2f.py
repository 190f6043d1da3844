"""cifar_2c2f of the examples of auto_LiRPA (Xu et al. 2020, arXiv 2002.12920): two unpadded convolutions, two dense."""

from __future__ import annotations

from torch import nn


def make() -> nn.Module:
    """32x32x3 -> 30x30x4 -> 28x28x4 -> 32 -> 10, ReLU between."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(28 * 28 * 4, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def input_shape(**options: object) -> tuple[int, int, int]:
    return 3, 32, 32
