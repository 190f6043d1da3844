"""A CNN for the 8x8 digits, so small (order 288 with 4 channels) that LipSDP solves the whole network in seconds."""

from __future__ import annotations

from torch import nn


def make(*, channels: int = 4, hidden: int = 16) -> nn.Module:
    """8x8x1 -> 6x6xC -> 4x4xC -> hidden -> 10, ReLU between."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 4 * channels, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


def input_shape(**options: object) -> tuple[int, int, int]:
    return 1, 8, 8
