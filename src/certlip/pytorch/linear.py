"""Linear torch layers as layers of a `Network`: convolutions, dense layers, normalisation, averages, resizing.

Each takes the name, the module, and the shapes of one example before and after it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from certlip.base.errors import UnsupportedLayer
from certlip.network import Along, Array, Conv, Dense, Flatten, Gather, Layer, Pair, Reshape, Shape, Sum
from certlip.pytorch.moving import moved


class Reduced(nn.Module):
    """The mean or the sum over some axes."""

    def __init__(self, mean: bool, dim: Any = None, keepdim: bool = False) -> None:
        super().__init__()
        self.mean, self.dim, self.keepdim = mean, dim, keepdim

    def forward(self, inputs: Tensor) -> Tensor:
        reduce: Any = torch.mean if self.mean else torch.sum
        reduced: Tensor = reduce(inputs, self.dim, self.keepdim)
        return reduced


def numbers(tensor: Tensor) -> Array:
    """A tensor as float64."""
    return tensor.detach().cpu().to(torch.float64).numpy().copy()


def pair(value: Any) -> Pair:
    """Of a number for both axes, or one each."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def refused(name: str, what: str) -> UnsupportedLayer:
    """The one sentence about a layer that no bound covers."""
    return UnsupportedLayer(f"{name}: no bound for {what}")


def _bias(module: Any, n: int) -> Array:
    return np.zeros(n) if module.bias is None else numbers(module.bias)


def conv2d(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """Padding of another kind than zeros is a step of its own."""
    if len(shape) != 3:
        raise refused(name, f"Conv2d of an input of shape {shape}")
    weight = numbers(module.weight)
    stride, dilation = pair(module.stride), pair(module.dilation)
    left, right, top, bottom = _paddings(module)
    layers: list[Layer] = []
    padding = top, bottom, left, right
    if module.padding_mode != "zeros" and any(padding):
        layers = _padded(name, module.padding_mode, (left, right, top, bottom), shape)
        padding = 0, 0, 0, 0
    return [*layers, Conv(name, weight, _bias(module, len(weight)), stride, padding, dilation, module.groups)]


def _paddings(module: Any) -> tuple[int, ...]:
    """As F.pad takes them: the last axis first; torch puts the odd pixel of "same" at the end."""
    sides: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]
        else:
            sides += [0 if module.padding == "valid" else int(module.padding[axis])] * 2
    return tuple(sides)


def _padded(name: str, mode: str, sides: tuple[int, ...], shape: Shape) -> list[Layer]:
    def pad(values: Tensor) -> Tensor:
        return F.pad(values, sides, mode=mode)

    output_shape = tuple(pad(torch.zeros(1, *shape)).shape[1:])
    return moved(f"{name} padding", pad, shape, output_shape) or []


def conv1d(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A convolution of a map of one row."""
    if len(shape) != 2:
        raise refused(name, f"Conv1d of an input of shape {shape}")
    weight, (left, right) = numbers(module.weight)[:, :, None], _paddings(module)
    before: list[Layer] = []
    if module.padding_mode != "zeros" and (left or right):
        before, (left, right) = _padded(name, module.padding_mode, (left, right), shape), (0, 0)
        shape = before[0].output_shape(shape)
    stride, dilation = (1, module.stride[0]), (1, module.dilation[0])
    layer = Conv(name, weight, _bias(module, len(weight)), stride, (0, 0, left, right), dilation, module.groups)
    return [*before, *as_row(name, shape, layer), Reshape(f"{name} row", output_shape)]


def as_row(name: str, shape: Shape, layer: Layer) -> list[Layer]:
    """A layer of maps, for a value (channels, length) as a map of one row."""
    return [Reshape(f"{name} as a row", (shape[0], 1, shape[1])), layer]


def conv_transpose2d(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A convolution with the kernel turned around, of the map with zeros between its pixels."""
    if len(shape) != 3 or module.padding_mode != "zeros":
        raise refused(name, f"ConvTranspose2d of an input of shape {shape}")
    stride, dilation, sides, extra = map(pair, (module.stride, module.dilation, module.padding, module.output_padding))
    grouped = numbers(module.weight).reshape(module.groups, -1, *module.weight.shape[1:])  # (groups, in, out, k_h, k_w)
    weight = grouped.transpose(0, 2, 1, 3, 4)[:, :, :, ::-1, ::-1].reshape(-1, grouped.shape[1], *grouped.shape[3:])
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], sides, strict=True)]
    if min(reach) < 0:
        raise refused(name, f"ConvTranspose2d with padding {sides} beyond its kernel")
    padding = reach[0], reach[0] + extra[0], reach[1], reach[1] + extra[1]
    layer = Conv(
        name, np.ascontiguousarray(weight), _bias(module, len(weight)), (1, 1), padding, dilation, module.groups
    )
    return [layer] if stride == (1, 1) else [_spread(f"{name} spread", shape, stride), layer]


def _spread(name: str, shape: Shape, stride: Pair) -> Gather:
    sides = [(n - 1) * s + 1 for n, s in zip(shape[1:], stride, strict=True)]
    index = np.full((shape[0], *sides), -1.0)
    index[:, :: stride[0], :: stride[1]] = np.arange(float(math.prod(shape))).reshape(shape)
    return Gather(name, index)


def dense(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """Along the last axis."""
    weight = numbers(module.weight)
    bias = _bias(module, len(weight))
    return [Dense(name, weight, bias) if len(shape) == 1 else Along(name, len(shape) - 1, weight, bias)]


def batch_norm(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """With the statistics that were recorded."""
    if module.running_mean is None:
        raise refused(name, f"{type(module).__name__} without running statistics")
    scale = 1.0 / np.sqrt(numbers(module.running_var) + module.eps)
    if module.weight is not None:
        scale = scale * numbers(module.weight)
    shift = -numbers(module.running_mean) * scale
    if module.bias is not None:
        shift = shift + numbers(module.bias)
    a_channel = (-1, *[1] * (len(shape) - 1))
    return [Sum(name, (scale.reshape(a_channel),), shift.reshape(a_channel))]


def average_pool(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A depthwise convolution where all windows count alike."""
    padding = pair(module.padding)
    kernel = pair(module.kernel_size)
    stride = pair(module.stride or kernel)
    weight = np.full((shape[0], 1, *kernel), 1.0 / (module.divisor_override or kernel[0] * kernel[1]))
    sides = (padding[0], padding[0], padding[1], padding[1])
    layer = Conv(name, weight, np.zeros(shape[0]), stride, sides, groups=shape[0])
    counts_alike = max(padding) == 0 or module.count_include_pad or module.divisor_override is not None
    if len(shape) == 3 and counts_alike and layer.output_shape(shape) == output_shape:
        return [layer]
    return separable(name, module, shape, output_shape)


def adaptive_average_pool(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A depthwise convolution where the windows do not overlap."""
    if len(shape) != 3 or shape[1] % output_shape[1] or shape[2] % output_shape[2]:
        return separable(name, module, shape, output_shape)
    return [_mean_of_windows(name, shape, (shape[1] // output_shape[1], shape[2] // output_shape[2]))]


def _mean_of_windows(name: str, shape: Shape, kernel: Pair) -> Conv:
    weight = np.full((shape[0], 1, *kernel), 1.0 / (kernel[0] * kernel[1]))
    return Conv(name, weight, np.zeros(shape[0]), stride=kernel, groups=shape[0])


def separable(name: str, module: nn.Module, shape: Shape, output_shape: Shape) -> list[Layer]:
    """What maps each channel of a map alike, by a matrix along its rows and one along its columns, read off.

    Constant maps must stay constant, as means and interpolation leave them.
    """
    if len(shape) != 3 or len(output_shape) != 3:
        raise refused(name, f"{type(module).__name__} of {shape} to {output_shape}")
    matrices = []
    for axis in (2, 3):
        n = shape[axis - 1]
        ends = torch.ones(n, 1, *shape[1:], dtype=torch.float64) * torch.eye(n, dtype=torch.float64).reshape(
            n, 1, *([n, 1] if axis == 2 else [1, n])
        )
        with torch.no_grad():
            matrices.append(numbers(module(ends)[:, 0, :, 0] if axis == 2 else module(ends)[:, 0, 0, :]).T)
    sides = zip(("rows", "columns"), (1, 2), matrices, strict=True)
    return [Along(f"{name} {side}", axis, matrix, np.zeros(len(matrix))) for side, axis, matrix in sides]


def reduced(name: str, module: Reduced, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A mean over whole maps is a convolution with one window."""
    n_axes = len(shape) + 1
    dim = module.dim if module.dim is not None else range(n_axes)
    axes = sorted({d % n_axes for d in ([dim] if isinstance(dim, int) else dim)})
    if 0 in axes:
        raise refused(name, "a mean or sum over the examples of a batch")
    layers: list[Layer] = []
    reached: Shape = shape
    if axes == [2, 3] and module.mean:
        layers = [_mean_of_windows(name, shape, (shape[1], shape[2]))]
        reached = layers[0].output_shape(shape)
    else:
        for axis in axes:
            n = shape[axis - 1]
            weight = np.full((1, n), 1.0 / n if module.mean else 1.0)
            layers.append(Along(name, axis - 1, weight, np.zeros(1)))
            reached = layers[-1].output_shape(reached)
    if reached != output_shape:
        layers.append(Flatten(name) if len(output_shape) == 1 else Reshape(name, output_shape))
    return layers
