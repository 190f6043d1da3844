"""Sorting, and maxima along axes or of two parts of a value, as layers of a `Network`.

A maximum along an axis is the last entry of the sorted axis, so that one kind of layer says all of it: groups that are
sorted, and what is chosen of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from certlip.network import Layer, MaxPool, Shape, Softmax, Sort
from certlip.pytorch.linear import refused
from certlip.pytorch.modules import Sorted
from certlip.pytorch.moving import moved

PAIRS = ("maximum", "minimum", "max", "min")
"""Names of functions and methods of two tensors."""
TUPLES = ("sort", "max", "min")
"""Names of functions and methods along an axis, which give values and their places."""


class Extreme(nn.Module):
    """The largest or smallest entries along some axes."""

    def __init__(self, largest: bool, dim: int | Sequence[int], keepdim: bool = False) -> None:
        super().__init__()
        self.largest, self.keepdim = largest, keepdim
        self.dim = (dim,) if isinstance(dim, int) else tuple(dim)

    def forward(self, inputs: Tensor) -> Tensor:
        return (torch.amax if self.largest else torch.amin)(inputs, self.dim, self.keepdim)


class ExtremeOfParts(nn.Module):
    """The larger or smaller of two parts of a value, entry by entry.

    both: of a batch of so many examples the two parts, one after the other along the axis behind the batch.
    """

    def __init__(self, largest: bool, both: Callable[[Tensor], Tensor], n_examples: int) -> None:
        super().__init__()
        self.largest, self.both, self.n_examples = largest, both, n_examples

    def forward(self, inputs: Tensor) -> Tensor:
        return (torch.amax if self.largest else torch.amin)(self.both(inputs), 1)


def sorted_values(inputs: Tensor, dim: int = -1, descending: bool = False) -> Tensor:
    """What `torch.sort` gives first."""
    return inputs.sort(dim, descending).values


def extreme(largest: bool) -> Callable[..., nn.Module | None]:
    """Of the arguments of `torch.max` or `torch.amax`, and of their like, behind the input."""

    def make(dim: Any = None, keepdim: bool = False) -> nn.Module | None:
        if isinstance(dim, Tensor):
            return limit(largest)(dim)
        return None if dim is None else Extreme(largest, dim, keepdim)

    return make


def limit(largest: bool) -> Callable[..., nn.Module | None]:
    """Of a second operand that depends on no input: one number."""

    def make(other: Tensor) -> nn.Module | None:
        if not isinstance(other, Tensor) or other.numel() != 1:
            return None
        end = float(other)
        low, high = (end, torch.finfo(torch.float64).max) if largest else (torch.finfo(torch.float64).min, end)
        return nn.Hardtanh(low, high)

    return make


def sorting(name: str, module: Sorted, shape: Shape, output_shape: Shape) -> list[Layer]:
    """In descending order it is turned around."""
    axis = _axis(name, module.dim, shape)
    turned = moved(f"{name} turned", lambda x: x.flip(axis + 1), shape, shape) if module.descending else []
    return [Sort(name, axis), *(turned or [])]


def extreme_along(name: str, module: Extreme, shape: Shape, output_shape: Shape) -> list[Layer]:
    """Along one axis after the other; over a whole map it is a pooling."""
    axes = sorted({_axis(name, dim, shape) for dim in module.dim})
    if axes == [1, 2] and len(shape) == 3 and module.largest:
        pool = MaxPool(name, (shape[1], shape[2]), (shape[1], shape[2]))
        return [pool, *(moved(name, lambda x: x.reshape(-1, *output_shape), (shape[0], 1, 1), output_shape) or [])]
    layers: list[Layer] = []
    for axis in axes:
        after = output_shape if axis == axes[-1] else (*shape[:axis], 1, *shape[axis + 1 :])
        layers += [Sort(name, axis), *_chosen(name, module.largest, axis, shape, after)]
        shape = after
    return layers


def extreme_of_parts(name: str, module: ExtremeOfParts, shape: Shape, output_shape: Shape) -> list[Layer]:
    """The parts side by side along an axis of their own, sorted."""
    both = (2, *output_shape)
    pair = moved(f"{name} pair", module.both, shape, both, module.n_examples)
    if pair is None:
        raise refused(name, f"{'maximum' if module.largest else 'minimum'} of parts of {shape}")
    choice = moved(f"{name} choice", lambda x: x[:, int(module.largest)], both, output_shape)
    return [*pair, Sort(name, 0), *(choice or [])]


def softmax(name: str, module: nn.Softmax | nn.LogSoftmax, shape: Shape, output_shape: Shape) -> list[Layer]:
    kind = type(module).__name__
    if module.dim is None:
        raise refused(name, f"{kind} without its dim; say which axis")
    return [Softmax(name, _axis(name, module.dim, shape), isinstance(module, nn.LogSoftmax))]


def softmax_of_channels(name: str, module: nn.Module, shape: Shape, output_shape: Shape) -> list[Layer]:
    return [Softmax(name, 0)]


def _chosen(name: str, largest: bool, axis: int, shape: Shape, output_shape: Shape) -> list[Layer]:
    """The last or the first along an axis, in the shape of the output."""
    place = shape[axis] - 1 if largest else 0

    def choose(values: Tensor) -> Tensor:
        return values.narrow(axis + 1, place, 1).reshape(-1, *output_shape)

    return moved(f"{name} choice", choose, shape, output_shape) or []


def _axis(name: str, dim: int, shape: Shape) -> int:
    """Of one example."""
    axis = dim % (len(shape) + 1)
    if axis == 0:
        raise refused(name, "anything along the examples of a batch")
    return axis - 1
