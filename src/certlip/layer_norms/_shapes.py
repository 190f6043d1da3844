"""Convolution shapes to measure on: ResNet-18, VGG-16 (ImageNet sizes), and the randn kernel of the Gram paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from certlip.network import Conv, Shape


@dataclass(frozen=True)
class ConvShape:
    """A square convolution: kernel (c_out, c_in, kernel, kernel) on (c_in, image, image).

    kaiming: normal weights of variance 2 / fan-in (He et al. 2015), else of variance one; published: rival -> value
    that a paper prints, for weights of the same distribution but another draw.
    """

    c_in: int
    c_out: int
    kernel: int
    image: int
    stride: int = 1
    padding: int = 0
    kaiming: bool = True
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def input_shape(self) -> Shape:
        return self.c_in, self.image, self.image

    def layer(self, name: str, seed: int = 0) -> Conv:
        """The convolution with seeded random weights and no bias."""
        deviation = math.sqrt(2 / (self.c_in * self.kernel**2)) if self.kaiming else 1.0
        shape = (self.c_out, self.c_in, self.kernel, self.kernel)
        weight = deviation * np.random.default_rng(seed).standard_normal(shape)
        return Conv(name, weight, np.zeros(self.c_out), (self.stride,) * 2, (self.padding,) * 4)


RANDN = {
    "randn 64x64x5x5, n = 12": ConvShape(
        64,
        64,
        5,
        12,
        kaiming=False,
        published={"svd": 83.092, "gram": 83.118, "fantastic_four": 177.1, "toeplitz_grid": 357.1},
    ),
    "randn, n = 12, padded": ConvShape(64, 64, 5, 12, padding=2, kaiming=False, published={"gram": 86.432}),
}
"""The worked example of Delattre et al. 2023 (arXiv 2305.16173), which is circular, hence without padding here, and
that of zero padding (Delattre et al. 2024, arXiv 2402.00240)."""


def _resnet18() -> dict[str, ConvShape]:
    shapes = {"resnet18 conv1": ConvShape(3, 64, 7, 224, stride=2, padding=3)}
    c_in = 64
    for stage, (c_out, image) in enumerate([(64, 56), (128, 28), (256, 14), (512, 7)], start=1):
        if c_out != c_in:
            shapes[f"resnet18 layer{stage} first"] = ConvShape(c_in, c_out, 3, 2 * image, stride=2, padding=1)
            shapes[f"resnet18 layer{stage} shortcut"] = ConvShape(c_in, c_out, 1, 2 * image, stride=2)
        shapes[f"resnet18 layer{stage}"] = ConvShape(c_out, c_out, 3, image, padding=1)
        c_in = c_out
    return shapes


def _vgg16() -> dict[str, ConvShape]:
    sizes = [(3, 64, 224), (64, 128, 112), (128, 256, 56), (256, 512, 28), (512, 512, 14)]
    return {f"vgg16 {a}-{b}, n = {n}": ConvShape(a, b, 3, n, padding=1) for a, b, n in sizes}


RESNET18 = _resnet18()
"""Distinct convolutions of ResNet-18 (He et al. 2016, arXiv 1512.03385) at 224 x 224 pixels."""

VGG16 = _vgg16()
"""The first convolution of each stage of VGG-16 (Simonyan & Zisserman 2015, arXiv 1409.1556) at 224 x 224 pixels."""

GROUPS = {"randn": RANDN, "resnet18": RESNET18, "vgg16": VGG16}
"""Shapes by the name of their network."""
