"""cifar10_cnn_a of SDP-CROWN (Chiu et al. 2025, arXiv 2506.06665): strided, padded convolutions."""

from __future__ import annotations

from torch import nn


def make() -> nn.Module:
    """32x32x3 -> 16x16x16 -> 8x8x32 -> 100 -> 10, ReLU between."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 8 * 32, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def input_shape(**options: object) -> tuple[int, int, int]:
    return 3, 32, 32
