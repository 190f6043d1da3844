"""Two 4x4 convolutions of stride 2 and two dense layers: a shape that many papers on verification train.

mnist_cnn_small of auto_LiRPA (Xu et al. 2020, arXiv 2002.12920), the ConvSmall and CNN-A of SDP-CROWN (2025, arXiv
2506.06665), the base network of OVAL for CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def make(
    *, input_shape: Sequence[int] = (1, 28, 28), channels: Sequence[int] = (8, 16), hidden: int = 256
) -> nn.Module:
    """28x28x1 -> 14x14x8 -> 7x7x16 -> hidden -> 10, ReLU between; input_shape: [channels, rows, columns]."""
    c_in, rows, columns = input_shape
    first, second = channels
    return nn.Sequential(
        nn.Conv2d(c_in, first, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(first, second, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(rows // 4 * (columns // 4) * second, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


def input_shape(*, input_shape: Sequence[int] = (1, 28, 28), **options: object) -> tuple[int, ...]:
    return tuple(input_shape)
