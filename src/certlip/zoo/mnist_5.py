"""The five-layer MNIST network of Virmaux & Scaman 2018 (arXiv 1805.10965): one convolution is padded."""

from __future__ import annotations

from torch import nn

from certlip.zoo import mnist_4


def make() -> nn.Module:
    """28x28x1 -> 12x12x32 -> 5x5x64 -> 5x5x64 -> 2x2x128 -> 10, ReLU between: `mnist_4` and one layer more."""
    layers = [*mnist_4.make()]
    return nn.Sequential(*layers[:4], nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), *layers[4:])


input_shape = mnist_4.input_shape
