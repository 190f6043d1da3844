"""mnist_convsmall of SDP-CROWN (Chiu et al. 2025, arXiv 2506.06665): strided, padded convolutions."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def make() -> nn.Module:
    """28x28x1 -> 14x14x16 -> 7x7x32 -> 100 -> 10, ReLU between."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 4, stride=2, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 4, stride=2, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(7 * 7 * 32, 100),
            relu3=nn.ReLU(),
            fc2=nn.Linear(100, 10),
        )
    )


def input_shape(**options: object) -> tuple[int, int, int]:
    return 1, 28, 28
