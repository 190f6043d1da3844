"""Fully connected ReLU networks of any widths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def make(*, widths: Sequence[int] = (784, 256, 10)) -> nn.Module:
    """Dense layers n_0 -> n_1 -> ... -> n_L with ReLU between; images are flattened first."""
    if len(widths) < 2:
        raise ValueError("widths must name at least the input and the output")
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def input_shape(*, widths: Sequence[int] = (784, 256, 10)) -> tuple[int]:
    return (widths[0],)
