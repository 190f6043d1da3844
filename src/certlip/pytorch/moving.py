"""Operations that only move, choose or repeat entries of a value, or put zeros beside them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from certlip.network import Array, Conv, Flatten, Gather, Layer, Reshape, Shape

_NAMES = """
    broadcast_to cat channel_shuffle chunk concat contiguous expand expand_as flatten flip fliplr flipud getitem
    index_select moveaxis movedim narrow pad permute pixel_shuffle pixel_unshuffle repeat repeat_interleave reshape
    reshape_as roll rot90 select split squeeze stack swapaxes swapdims t tensor_split tile transpose unbind unflatten
    unsqueeze view view_as
"""
OPERATIONS = frozenset(_NAMES.split())
"""Names of functions and methods of torch that do nothing else to a value, whatever their other arguments."""


class Moving(nn.Module):
    """A call of a function of `OPERATIONS`, on batches of so many examples."""

    def __init__(self, operation: str, call: Callable[[Tensor], Tensor], n_examples: int) -> None:
        super().__init__()
        self.operation, self.call, self.n_examples = operation, call, n_examples

    def forward(self, inputs: Tensor) -> Tensor:
        return self.call(inputs)


def moved(
    name: str, call: Callable[[Tensor], Tensor], shape: Shape, output_shape: Shape, n_examples: int = 2
) -> list[Layer] | None:
    """The layers of an operation that moves entries of values of a shape; None where it does more.

    call: on a batch of so many examples. Two batches of different numbers tell where each output comes from.
    """
    n = math.prod(shape)
    codes = torch.arange(1.0, n_examples * n + 1, dtype=torch.float64).reshape(n_examples, *shape)
    with torch.no_grad():
        found, again = call(codes.clone()), call(-3.0 * codes)
    if tuple(found.shape) != (n_examples, *output_shape) or not torch.equal(-3.0 * found, again):
        return None
    first, *others = found.numpy()
    if first.min(initial=0) < 0 or first.max(initial=0) > n or (first != np.floor(first)).any():
        return None
    if any(not np.array_equal(other, first + k * n * (first > 0)) for k, other in enumerate(others, start=1)):
        return None
    return simplest(name, first - 1, shape)


def simplest(name: str, index: Array, shape: Shape) -> list[Layer]:
    """The layers of a `Gather` of a value of a shape."""
    order = np.arange(float(math.prod(shape))).reshape(shape)
    if index.size == order.size and (index.ravel() == order.ravel()).all():
        if index.shape == shape:
            return []
        return [Flatten(name) if shape and index.ndim == 1 else Reshape(name, index.shape)]
    if len(shape) == index.ndim == 3:
        padded = _padded(name, index, order)
        if padded is not None:
            return [padded]
        chosen = index[:, 0, 0]
        if index.shape[1:] == shape[1:] and (index == chosen[:, None, None] + order[0]).all():
            weight = np.eye(shape[0])[(chosen / order[0].size).astype(np.intp)]
            return [Conv(name, weight[:, :, None, None], np.zeros(len(weight)))]
    return [Gather(name, index)]


def _padded(name: str, index: Array, order: Array) -> Conv | None:
    """Zero padding as a convolution that copies each pixel; None for anything else."""
    channels, rows, columns = order.shape
    kept = np.argwhere(index == 0)
    if len(index) != channels or len(kept) != 1:
        return None
    _, top, left = map(int, kept[0])
    bottom, right = index.shape[1] - rows - top, index.shape[2] - columns - left
    if min(bottom, right) < 0:
        return None
    expected = np.pad(order, [(0, 0), (top, bottom), (left, right)], constant_values=-1)
    if not np.array_equal(index, expected):
        return None
    return Conv(
        name, np.ones((channels, 1, 1, 1)), np.zeros(channels), (1, 1), (top, bottom, left, right), groups=channels
    )
