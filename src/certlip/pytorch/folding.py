"""Layers that are written as one with the layer before or behind them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from certlip.network import Along, Conv, Dense, Gather, Layer, Shape, Sum


def fold(before: Layer, after: Layer, shape: Shape) -> Layer | None:
    """One layer for a Conv or Dense and the scaling behind it, or for zero padding and the Conv behind it; None for any
    others. shape: between the two."""
    if isinstance(after, Sum) and len(after.factors) == 1 and isinstance(before, Conv | Dense):
        numbers = after.per_channel(shape)
        if numbers is None:
            return None
        (scale,), offset = numbers
        weight = before.weight * scale.reshape(-1, *[1] * (before.weight.ndim - 1))
        return replace(before, weight=weight, bias=before.bias * scale + offset)
    if not (isinstance(before, Conv) and isinstance(after, Conv)):
        return None
    one_to_one = before.weight.shape == (before.groups, 1, 1, 1) and before.stride == (1, 1)
    if not (one_to_one and (before.weight == 1).all() and not before.bias.any()):
        return None
    top, bottom, left, right = (p + q for p, q in zip(before.padding, after.padding, strict=True))
    return replace(after, padding=(top, bottom, left, right))


def before_choice(layer: Layer, choice: Gather, shape: Shape) -> Sum | None:
    """A scaling behind a choice of entries of each channel as one before it; None for anything else.

    shape: of the map that is chosen from.
    """
    index = choice.index
    if not isinstance(layer, Sum) or len(layer.factors) != 1 or index.ndim < 2 or len(index) != shape[0]:
        return None
    numbers = layer.per_channel(index.shape)
    channel = np.arange(shape[0]).reshape(-1, *[1] * (index.ndim - 1))
    if numbers is None or not (index // math.prod(shape[1:]) == channel).all():
        return None
    (scale,), offset = (numbers[0], numbers[1])
    a_channel = (-1, *[1] * (len(shape) - 1))
    return Sum(layer.name, (scale.reshape(a_channel),), offset.reshape(a_channel))


def as_linear(layer: Layer, shape: Shape) -> Layer:
    """A scaling, or a matrix along the channels, of a value of this shape as a convolution or a dense layer; any other
    layer as it is."""
    if isinstance(layer, Along) and layer.axis == 0 and len(shape) in (1, 3):
        if len(shape) == 1:
            return Dense(layer.name, layer.weight, layer.bias)
        return Conv(layer.name, layer.weight[:, :, None, None], layer.bias)
    numbers = layer.per_channel(shape) if isinstance(layer, Sum) and len(layer.factors) == 1 else None
    if numbers is None:
        return layer
    (scale,), offset = numbers
    if len(shape) == 1:
        return Dense(layer.name, np.diag(scale), offset)
    if len(shape) == 3:
        return Conv(layer.name, scale[:, None, None, None], offset, groups=len(scale))
    return Along(layer.name, 0, np.diag(scale), offset)
