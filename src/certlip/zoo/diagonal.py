"""Channels that never mix, with ReLU between: the constant is max |first_k second_k|, by one pixel of one channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

FIRST, SECOND = (3.0, 0.5, -2.0), (0.5, 4.0, 1.0)


def make(
    *, first: Sequence[float] = FIRST, second: Sequence[float] = SECOND, image_size: Sequence[int] = (1, 1)
) -> nn.Module:
    """Depthwise 1x1 convolutions; first, second: a factor a channel."""
    n = len(first)
    convs = [nn.Conv2d(n, n, 1, groups=n, bias=False) for _ in range(2)]
    network = nn.Sequential(convs[0], nn.ReLU(), convs[1])
    for layer, factors in ((network[0], first), (network[2], second)):
        layer.weight.data = torch.tensor(factors).reshape(n, 1, 1, 1)
    return network


def input_shape(
    *, first: Sequence[float] = FIRST, image_size: Sequence[int] = (1, 1), **options: object
) -> tuple[int, int, int]:
    """(channels, rows, columns); image_size: [rows, columns]."""
    rows, columns = image_size
    return len(first), rows, columns


def known_constant(
    *, first: Sequence[float] = FIRST, second: Sequence[float] = SECOND, image_size: Sequence[int] = (1, 1)
) -> float:
    """The exact Lipschitz constant, for numbers that float32 holds."""
    return max(abs(a * b) for a, b in zip(first, second, strict=True))
