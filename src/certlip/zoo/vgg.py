"""Stages of equal 3x3 convolutions with max pooling between, in the manner of VGG (Simonyan & Zisserman 2014)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def make(
    *,
    input_shape: Sequence[int] = (3, 32, 32),
    widths: Sequence[int] = (32, 64, 128),
    n_layers: int = 2,
    hidden: int = 128,
    batch_norm: bool = True,
    n_classes: int = 10,
) -> nn.Module:
    """A stage of `n_layers` convolutions and max pooling for each width, and two dense layers.

    By default 32x32x3 -> 32x32x32 -> 16x16x64 -> 8x8x128 -> 4x4x128 -> hidden -> classes.
    """
    c_in, rows, columns = input_shape
    layers: list[nn.Module] = []
    for width in widths:
        for _ in range(n_layers):
            layers.append(nn.Conv2d(c_in, width, 3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(width), nn.ReLU()] if batch_norm else [nn.ReLU()]
            c_in = width
        layers.append(nn.MaxPool2d(2))
        rows, columns = rows // 2, columns // 2
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(rows * columns * c_in, hidden), nn.ReLU(), nn.Linear(hidden, n_classes)
    )


def input_shape(*, input_shape: Sequence[int] = (3, 32, 32), **options: object) -> tuple[int, ...]:
    return tuple(input_shape)
