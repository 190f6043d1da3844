"""Equal convolutions with ReLU between: the block of the sweeps of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def make(
    *,
    channels: int = 4,
    n_layers: int = 2,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 0,
    image_size: Sequence[int] = (10, 10),
    input_channels: int = 1,
) -> nn.Module:
    """`n_layers` convolutions of `channels` output channels each, without ReLU after the last."""
    if n_layers < 1:
        raise ValueError("n_layers must be at least 1")
    layers: list[nn.Module] = []
    for c_in in [input_channels] + [channels] * (n_layers - 1):
        layers += [nn.Conv2d(c_in, channels, kernel, stride, padding), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def input_shape(
    *, image_size: Sequence[int] = (10, 10), input_channels: int = 1, **options: object
) -> tuple[int, int, int]:
    """(input_channels, rows, columns); image_size: [rows, columns]."""
    rows, columns = image_size
    return input_channels, rows, columns
