"""Equal convolutions with ReLU between: the block of the sweeps of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def make(
    *,
    channels: int = 4,
    n_layers: int = 2,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 0,
    image_size: Sequence[int] | int = (10, 10),
    input_channels: int = 1,
    n_classes: int | None = None,
) -> nn.Module:
    """`n_layers` convolutions of `channels` output channels each, without ReLU after the last.

    image_size: [rows, columns], or one number for both; n_classes: to be trained, the block needs a ReLU after its last
    convolution as well and a dense layer.
    """
    if n_layers < 1:
        raise ValueError("n_layers must be at least 1")
    layers: list[nn.Module] = []
    for c_in in [input_channels] + [channels] * (n_layers - 1):
        layers += [nn.Conv2d(c_in, channels, kernel, stride, padding), nn.ReLU()]
    if n_classes is None:
        return nn.Sequential(*layers[:-1])
    shape = input_shape(image_size=image_size, input_channels=input_channels)
    maps = nn.Sequential(*layers)(torch.zeros(1, *shape))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(maps.numel(), n_classes))


def input_shape(
    *, image_size: Sequence[int] | int = (10, 10), input_channels: int = 1, **options: object
) -> tuple[int, int, int]:
    """(input_channels, rows, columns)."""
    rows, columns = (image_size, image_size) if isinstance(image_size, int) else image_size
    return input_channels, rows, columns
