"""Max pooling after a gain: the constant is the gain times the root of the largest number of windows sharing a pixel.

It is attained where that pixel is above all others. Counting overlapping pooling as 1-Lipschitz gives less.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import nn


def make(*, kernel: int = 3, stride: int = 2, gain: float = 2.0, image_size: Sequence[int] = (7, 7)) -> nn.Module:
    """A 1x1 convolution and max pooling of one channel."""
    conv = nn.Conv2d(1, 1, 1, bias=False)
    conv.weight.data.fill_(gain)
    return nn.Sequential(conv, nn.MaxPool2d(kernel, stride))


def input_shape(*, image_size: Sequence[int] = (7, 7), **options: object) -> tuple[int, int, int]:
    """(1, rows, columns); image_size: [rows, columns]."""
    rows, columns = image_size
    return 1, rows, columns


def known_constant(*, kernel: int = 3, stride: int = 2, gain: float = 2.0, image_size: Sequence[int] = (7, 7)) -> float:
    """The Lipschitz constant, its root rounded down, for a gain that float32 holds."""
    windows = [range(0, side - kernel + 1, stride) for side in image_size]
    pixels = itertools.product(*map(range, image_size))
    shared = max(
        math.prod(sum(w <= p < w + kernel for w in ws) for p, ws in zip(pixel, windows, strict=True))
        for pixel in pixels
    )
    root = math.isqrt(shared)
    return abs(gain) * (root if root * root == shared else math.nextafter(math.sqrt(shared), 0.0) * (1 - 2.0**-52))
