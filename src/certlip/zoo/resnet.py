"""Residual networks of 3x3 convolutions: ResNet-20 for CIFAR-10 (He et al. 2016, arXiv 1512.03385) by default.

C-R18 of GLipSDP (Pauli et al. 2024, arXiv 2405.01125) too: one stage, max pooling in the stem, no normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """relu(conv(relu(conv(x))) + x); where the shape changes, a strided 1x1 convolution of x in place of x."""

    def __init__(self, c_in: int, c_out: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        first, second = _conv(c_in, c_out, 3, stride, batch_norm), _conv(c_out, c_out, 3, 1, batch_norm)
        self.branch = nn.Sequential(*first, nn.ReLU(), *second)
        same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv(c_in, c_out, 1, stride, batch_norm))

    def forward(self, x: Tensor) -> Tensor:
        """A batch of maps."""
        return torch.relu(self.branch(x) + self.shortcut(x))


def make(
    *,
    input_shape: Sequence[int] = (3, 32, 32),
    widths: Sequence[int] = (16, 32, 64),
    n_blocks: int = 3,
    stem_kernel: int = 3,
    stem_pool: int = 1,
    head_pool: int | None = None,
    batch_norm: bool = True,
    n_classes: int = 10,
) -> nn.Module:
    """A stem, a stage of `n_blocks` blocks for each width, pooling and a dense layer.

    widths: channels of the stages, the first at the stem's resolution, each other at half that of the one before;
    stem_kernel: odd; stem_pool: side of max pooling after the stem, 1 for none; head_pool: side of average pooling
    before the dense layer, None for the whole map.
    """
    layers: list[nn.Module] = [*_conv(input_shape[0], widths[0], stem_kernel, 1, batch_norm), nn.ReLU()]
    if stem_pool > 1:
        layers.append(nn.MaxPool2d(stem_pool))
    c_in = widths[0]
    for stage, width in enumerate(widths):
        for block in range(n_blocks):
            layers.append(Block(c_in, width, 2 if stage and not block else 1, batch_norm))
            c_in = width
    layers += [nn.AdaptiveAvgPool2d(1) if head_pool is None else nn.AvgPool2d(head_pool), nn.Flatten()]
    features = nn.Sequential(*layers).eval()(torch.zeros(1, *input_shape))
    return nn.Sequential(*layers, nn.Linear(features.shape[1], n_classes))


def _conv(c_in: int, c_out: int, kernel: int, stride: int, batch_norm: bool) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=not batch_norm)
    return [conv, nn.BatchNorm2d(c_out)] if batch_norm else [conv]


def input_shape(*, input_shape: Sequence[int] = (3, 32, 32), **options: object) -> tuple[int, ...]:
    return tuple(input_shape)
