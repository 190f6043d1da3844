"""One torch layer, called as a module or as a function, as layers of a `Network`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from certlip.base.errors import UnsupportedLayer
from certlip.network import Activation, Array, Conv, Dense, Flatten, Layer, MaxPool, Pair, Shape, Sum

DROPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
RESHAPES = ("flatten", "view", "reshape", "squeeze", "contiguous")

TENSORS = (torch.Tensor, nn.Parameter)
"""Classes of tensors whose arithmetic is torch's own."""


class Abs(nn.Module):
    """Elementwise absolute value."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.abs()


def convert(name: str, module: nn.Module, shape: Shape, output_shape: Shape) -> list[Layer]:
    """The layers that compute `module` in eval mode; batch normalisation is written as a scaling, a `Sum` of one term.

    shape, output_shape: of one example, as torch computes them. Raises UnsupportedLayer where there is no such layer:
    of a subclass nothing is known.
    """
    converter = _CONVERTERS.get(type(module))
    if converter is None:
        raise refused(name, type(module).__name__)
    layers = converter(name, module, shape, output_shape)
    if layers and layers[-1].output_shape(shape) != output_shape:
        raise refused(name, f"{type(module).__name__} of {shape} to {output_shape}")
    return layers


def refused(name: str, what: str) -> UnsupportedLayer:
    """The one sentence about a layer that no bound covers."""
    return UnsupportedLayer(f"{name}: no bound for {what}")


def fold(before: Layer, after: Layer, shape: Shape) -> Layer | None:
    """One layer for a Conv or Dense and the scaling behind it, or for a ZeroPad2d and the Conv behind it; None for any
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


def as_linear(layer: Layer, shape: Shape) -> Layer:
    """A scaling of a value of this shape as a depthwise convolution or a diagonal matrix; any other layer as it is."""
    numbers = layer.per_channel(shape) if isinstance(layer, Sum) and len(layer.factors) == 1 else None
    if numbers is None:
        return layer
    (scale,), offset = numbers
    if len(shape) == 1:
        return Dense(layer.name, np.diag(scale), offset)
    return Conv(layer.name, scale[:, None, None, None], offset, groups=len(scale)) if len(shape) == 3 else layer


def as_module(function: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> nn.Module | None:
    """The module that computes a call of a torch function; None if there is none.

    args, kwargs: all but the input, weights as tensors.
    """
    maker = _FUNCTIONS.get(function)
    return maker(*args, **kwargs) if maker else None


def _linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Module:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    return _with_weights(module, weight, bias)


def _conv2d(
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> nn.Module:
    c_out, c_in, *kernel = weight.shape
    module = nn.Conv2d(
        c_in * groups, c_out, (kernel[0], kernel[1]), stride, padding, dilation, groups, bias is not None, device="meta"
    )
    return _with_weights(module, weight, bias)


def _with_weights(module: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    module.weight = nn.Parameter(weight)
    if bias is not None:
        module.bias = nn.Parameter(bias)
    return module


def _batch_norm_call(
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> nn.Module | None:
    if training or running_mean is None or running_var is None:
        return None
    module: Any = nn.BatchNorm2d(len(running_mean), eps, affine=False)
    module.running_mean, module.running_var = running_mean, running_var
    module.weight = None if weight is None else nn.Parameter(weight)
    module.bias = None if bias is None else nn.Parameter(bias)
    return cast(nn.Module, module)


def _parametric_relu(weight: torch.Tensor) -> nn.Module:
    return _with_weights(nn.PReLU(weight.numel(), device="meta"), weight, None)


def _max_pool2d(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module | None:
    return None if training else nn.Identity()


def _without_options(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    return lambda inplace=False: kind()


def _numbers(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().to(torch.float64).numpy().copy()


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _conv(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    if module.padding_mode != "zeros":
        raise refused(name, f"Conv2d with {module.padding_mode} padding")
    if len(shape) != 3:
        raise refused(name, f"Conv2d of an input of shape {shape}")
    weight = _numbers(module.weight)
    bias = np.zeros(len(weight)) if module.bias is None else _numbers(module.bias)
    dilation = _pair(module.dilation)
    padding: list[int] = []
    for axis in (0, 1):
        if module.padding == "same":  # torch puts the odd pixel at the end
            total = dilation[axis] * (weight.shape[2 + axis] - 1)
            padding += [total // 2, total - total // 2]
        else:
            padding += [0 if module.padding == "valid" else _pair(module.padding)[axis]] * 2
    top, bottom, left, right = padding
    return [Conv(name, weight, bias, _pair(module.stride), (top, bottom, left, right), dilation, module.groups)]


def _dense(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    if len(shape) != 1:
        raise refused(name, f"Linear along the last axis of an input of shape {shape}")
    weight = _numbers(module.weight)
    return [Dense(name, weight, np.zeros(len(weight)) if module.bias is None else _numbers(module.bias))]


def _batch_norm(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    if module.running_mean is None:
        raise refused(name, f"{type(module).__name__} without running statistics")
    if len(shape) not in (1, 3):
        raise refused(name, f"{type(module).__name__} of an input of shape {shape}")
    scale = 1.0 / np.sqrt(_numbers(module.running_var) + module.eps)
    if module.weight is not None:
        scale = scale * _numbers(module.weight)
    shift = -_numbers(module.running_mean) * scale
    if module.bias is not None:
        shift = shift + _numbers(module.bias)
    a_channel = (-1, *[1] * (len(shape) - 1))
    return [Sum(name, (scale.reshape(a_channel),), shift.reshape(a_channel))]


def _average_pool(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    padding = _pair(module.padding)
    if max(padding) > 0 and not module.count_include_pad and module.divisor_override is None:
        raise refused(name, "AvgPool2d that leaves its padding out of the count")
    kernel = _pair(module.kernel_size)
    stride = _pair(module.stride or kernel)
    weight = np.full((shape[0], 1, *kernel), 1.0 / (module.divisor_override or kernel[0] * kernel[1]))
    sides = (padding[0], padding[0], padding[1], padding[1])
    return [Conv(name, weight, np.zeros(shape[0]), stride, sides, groups=shape[0])]


def _adaptive_average_pool(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    channels, rows, columns = shape
    if rows % output_shape[1] or columns % output_shape[2]:
        raise refused(name, f"AdaptiveAvgPool2d of {(rows, columns)} to {output_shape[1:]}: it does not divide evenly")
    kernel = (rows // output_shape[1], columns // output_shape[2])
    weight = np.full((channels, 1, *kernel), 1.0 / (kernel[0] * kernel[1]))
    return [Conv(name, weight, np.zeros(channels), stride=kernel, groups=channels)]


def _max_pool(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    if _pair(module.dilation) != (1, 1):
        raise refused(name, "MaxPool2d with dilation")
    kernel = _pair(module.kernel_size)
    return [MaxPool(name, kernel, _pair(module.stride or kernel), _pair(module.padding))]


def _reshape(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A row-major reshape of each example is nothing or a flattening."""
    if output_shape == shape:
        return []
    if len(output_shape) != 1:
        raise refused(name, f"a reshape of {shape} to {output_shape}")
    return [Flatten(name)]


def _zero_pad(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    """A padded convolution that copies each pixel."""
    if len(shape) != 3 or min(module.padding) < 0:
        raise refused(name, f"ZeroPad2d by {module.padding} of an input of shape {shape}")
    left, right, top, bottom = module.padding
    sides = (top, bottom, left, right)
    return [Conv(name, np.ones((shape[0], 1, 1, 1)), np.zeros(shape[0]), padding=sides, groups=shape[0])]


def _elementwise(kind: str) -> Callable[[str, Any, Shape, Shape], list[Layer]]:
    return lambda name, module, shape, output_shape: [Activation(name, kind)]


def _leaky_relu(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    return [Activation(name, "leaky_relu", float(module.negative_slope))]


def _prelu(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    slopes = _numbers(module.weight)
    return [Activation(name, "leaky_relu", float(slopes[0]) if slopes.size == 1 else slopes)]


_CONVERTERS: dict[type[nn.Module], Callable[[str, Any, Shape, Shape], list[Layer]]] = {
    **dict.fromkeys(DROPPED, lambda name, module, shape, output_shape: []),
    nn.Conv2d: _conv,
    nn.Linear: _dense,
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_average_pool,
    nn.MaxPool2d: _max_pool,
    nn.ZeroPad2d: _zero_pad,
    nn.Flatten: _reshape,
    nn.ReLU: _elementwise("relu"),
    nn.LeakyReLU: _leaky_relu,
    nn.PReLU: _prelu,
    nn.Tanh: _elementwise("tanh"),
    nn.Sigmoid: _elementwise("sigmoid"),
    Abs: _elementwise("abs"),
}

_FUNCTIONS: dict[object, Callable[..., nn.Module | None]] = {
    F.linear: _linear,
    F.conv2d: _conv2d,
    F.batch_norm: _batch_norm_call,
    F.max_pool2d: _max_pool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.leaky_relu: nn.LeakyReLU,
    F.prelu: _parametric_relu,
    F.relu: _without_options(nn.ReLU),
    torch.relu: _without_options(nn.ReLU),
    F.tanh: _without_options(nn.Tanh),
    torch.tanh: _without_options(nn.Tanh),
    F.sigmoid: _without_options(nn.Sigmoid),
    torch.sigmoid: _without_options(nn.Sigmoid),
    torch.abs: _without_options(Abs),
    operator.abs: _without_options(Abs),
    F.dropout: _dropout,
    F.dropout2d: _dropout,
}
