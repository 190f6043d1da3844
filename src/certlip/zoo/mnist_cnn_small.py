"""mnist_cnn_small of the examples of auto_LiRPA (Xu et al. 2020, arXiv 2002.12920): strided, padded convolutions."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def make() -> nn.Module:
    """28x28x1 -> 14x14x8 -> 7x7x16 -> 256 -> 10, ReLU between."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 8, 4, stride=2, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(8, 16, 4, stride=2, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(7 * 7 * 16, 256),
            relu3=nn.ReLU(),
            fc2=nn.Linear(256, 10),
        )
    )


def input_shape(**options: object) -> tuple[int, int, int]:
    return 1, 28, 28
