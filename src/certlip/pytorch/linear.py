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
from certlip.pytorch import volumes
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
    padding: list[Layer] = []
    if module.padding_mode != "zeros" and (left or right):
        padding = _padded(name, module.padding_mode, (left, right, 0, 0), (shape[0], 1, shape[1]))
        left = right = 0
    stride, dilation = (1, module.stride[0]), (1, module.dilation[0])
    layer = Conv(name, weight, _bias(module, len(weight)), stride, (0, 0, left, right), dilation, module.groups)
    return [*as_row(name, shape, *padding, layer), Reshape(f"{name} row", output_shape)]


def as_row(name: str, shape: Shape, *layers: Layer) -> list[Layer]:
    """Layers of maps, for a value (channels, length) as a map of one row."""
    return [Reshape(f"{name} as a row", (shape[0], 1, shape[1])), *layers]


def conv3d(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A convolution of a map in which the slices of the volume stand below each other."""
    if len(shape) != 4:
        raise refused(name, f"Conv3d of an input of shape {shape}")
    weight, sides, padded = numbers(module.weight), _paddings(module), None
    if module.padding_mode != "zeros" and any(sides):
        (padded,) = _padded(name, module.padding_mode, sides, shape)
        shape, sides = padded.output_shape(shape), (0,) * 6
    left, right, above, below, front, back = sides
    padding, bias = ((front, back), (above, below), (left, right)), _bias(module, len(weight))
    windows = volumes.Windows(module.stride, padding, module.dilation)
    first, *layers = volumes.convolution(name, weight, bias, windows, module.groups, shape, output_shape)
    if isinstance(padded, Gather) and isinstance(first, Gather):
        first = Gather(first.name, np.append(padded.index, -1.0)[first.positions].reshape(first.index.shape))
    return [first, *layers]


def conv_transpose(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A convolution with the kernel turned around, of the map with zeros between its pixels."""
    n_axes, kind = len(module.kernel_size), type(module).__name__
    if len(shape) != n_axes + 1 or module.padding_mode != "zeros":
        raise refused(name, f"{kind} of an input of shape {shape}")
    grouped = numbers(module.weight).reshape(module.groups, -1, *module.weight.shape[1:])  # (groups, in, out, *kernel)
    turned = np.flip(grouped.swapaxes(1, 2), tuple(range(3, 3 + n_axes)))
    weight = np.ascontiguousarray(turned.reshape(-1, *turned.shape[2:]))
    extents = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if any(p > extent for p, extent in zip(module.padding, extents, strict=True)):
        raise refused(name, f"{kind} with padding {module.padding} beyond its kernel")
    ends = zip(extents, module.padding, module.output_padding, strict=True)
    padding, bias = [(extent - p, extent - p + extra) for extent, p, extra in ends], _bias(module, len(weight))
    layers: list[Layer] = []
    if n_axes == 1:
        layers, shape = as_row(name, shape), (shape[0], 1, shape[1])
    strides = (1,) * (len(shape) - 1 - n_axes) + tuple(module.stride)
    if max(strides) > 1:
        layers.append(_spread(f"{name} spread", shape, strides))
        shape = layers[-1].output_shape(shape)
    if n_axes == 3:
        windows = volumes.Windows((1, 1, 1), (padding[0], padding[1], padding[2]), module.dilation)
        return [*layers, *volumes.convolution(name, weight, bias, windows, module.groups, shape, output_shape)]
    if n_axes == 1:
        layer = Conv(name, weight[:, :, None], bias, (1, 1), (0, 0, *padding[0]), (1, *module.dilation), module.groups)
        return [*layers, layer, Reshape(f"{name} row", output_shape)]
    return [*layers, Conv(name, weight, bias, (1, 1), (*padding[0], *padding[1]), module.dilation, module.groups)]


def _spread(name: str, shape: Shape, strides: Shape) -> Gather:
    index = np.full((shape[0], *((n - 1) * s + 1 for n, s in zip(shape[1:], strides, strict=True))), -1.0)
    index[:, *(slice(None, None, s) for s in strides)] = np.arange(float(math.prod(shape))).reshape(shape)
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


def average_pool_of_volumes(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A depthwise convolution where zeros of the padding count."""
    kernel, stride, sides = (_triple(v) for v in (module.kernel_size, module.stride, module.padding))
    counts = module.count_include_pad or module.divisor_override is not None
    if len(shape) != 4 or not (any(sides) and counts) or module.ceil_mode:
        return separable(name, module, shape, output_shape)
    weight = np.full((shape[0], 1, *kernel), 1.0 / (module.divisor_override or math.prod(kernel)))
    windows = volumes.Windows(stride, ((sides[0],) * 2, (sides[1],) * 2, (sides[2],) * 2))
    return volumes.convolution(name, weight, np.zeros(shape[0]), windows, shape[0], shape, output_shape)


def _triple(value: Any) -> volumes.Triple:
    return (value, value, value) if isinstance(value, int) else (value[0], value[1], value[2])


_SIDES = ("slices", "rows", "columns")


def separable(name: str, module: nn.Module, shape: Shape, output_shape: Shape) -> list[Layer]:
    """What maps each channel alike, by a matrix along each of its axes, read off.

    Constant maps must stay constant, as means and interpolation leave them.
    """
    n_axes = len(shape) - 1
    if len(shape) != len(output_shape) or not 1 <= n_axes <= 3:
        raise refused(name, f"{type(module).__name__} of {shape} to {output_shape}")
    layers: list[Layer] = []
    for axis, side in enumerate(_SIDES[-n_axes:], start=1):
        n = shape[axis]
        along = [n if a == axis else 1 for a in range(1, n_axes + 1)]
        ends = torch.ones(n, 1, *shape[1:], dtype=torch.float64) * torch.eye(n, dtype=torch.float64).view(n, 1, *along)
        with torch.no_grad():
            found = module(ends)[:, 0]
        line = found[:, *(slice(None) if a == axis else 0 for a in range(1, n_axes + 1))]
        matrix = numbers(line.T)
        layers.append(Along(f"{name} {side}", axis, matrix, np.zeros(len(matrix))))
    return layers


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
