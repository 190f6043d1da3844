"""One torch layer, called as a module or as a function, as layers of a `Network`."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from certlip.network import ACTIVATIONS, Activation, Layer, MaxPool, Reshape, Shape
from certlip.pytorch import linear
from certlip.pytorch.linear import Reduced, numbers, pair, refused
from certlip.pytorch.modules import Abs
from certlip.pytorch.moving import Moving, moved

DROPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm1d, nn.InstanceNorm2d)

TENSORS = (torch.Tensor, nn.Parameter)
"""Classes of tensors whose arithmetic is torch's own."""

_BY_ITS_SPREAD = " (it divides by the spread of its input, which no constant bounds; BatchNorm in eval mode does not)"
_PRODUCT = " (a product of values that both depend on the input has no constant)"
WHY_NOT = {
    **dict.fromkeys(("LayerNorm", "layer_norm", "GroupNorm", "group_norm", "normalize"), _BY_ITS_SPREAD),
    **dict.fromkeys(("MultiheadAttention", "scaled_dot_product_attention", "matmul", "bmm", "Bilinear"), _PRODUCT),
    **dict.fromkeys(
        ("Softmax", "softmax", "LogSoftmax", "log_softmax", "Softmax2d"), " (leave it out and bound the logits)"
    ),
}
"""Kind of layer -> why it has none, and what would do, where that is known."""


def convert(name: str, module: nn.Module, shape: Shape, output_shape: Shape) -> list[Layer]:
    """The layers that compute `module` in eval mode; batch normalisation is written as a scaling, a `Sum` of one term.

    shape, output_shape: of one example, as torch computes them. Raises UnsupportedLayer where there is no such layer:
    of a subclass nothing is known.
    """
    kind = type(module).__name__
    converter = _CONVERTERS.get(type(module))
    if converter is None:
        raise refused(name, kind + WHY_NOT.get(kind, ""))
    layers = converter(name, module, shape, output_shape)
    reached = shape
    for layer in layers:
        reached = layer.output_shape(reached)
    if reached != output_shape:
        raise refused(name, f"{kind} of {shape} to {output_shape}")
    return layers


def as_module(function: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> nn.Module | None:
    """The module that computes a call of a torch function; None if there is none.

    args, kwargs: all but the input, weights as tensors.
    """
    maker = _FUNCTIONS.get(function)
    return maker(*args, **kwargs) if maker else None


def _linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Module:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    return _with_weights(module, weight, bias)


def _matmul(weight: Any) -> nn.Module | None:
    return _linear(weight.T) if isinstance(weight, torch.Tensor) and weight.dim() == 2 else None


def _convolution(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    def make(
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> nn.Module:
        c_out, c_in, *kernel = weight.shape
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "device": "meta"}
        module = kind(c_in * groups, c_out, tuple(kernel), bias=bias is not None, **options)
        return _with_weights(module, weight, bias)

    return make


def _transposed(
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> nn.Module:
    c_in, c_out, *kernel = weight.shape
    module = nn.ConvTranspose2d(
        c_in,
        c_out * groups,
        (kernel[0], kernel[1]),
        stride,
        padding,
        output_padding,
        groups,
        bias is not None,
        dilation,
        device="meta",
    )
    return _with_weights(module, weight, bias)


def _with_weights(module: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    module.weight = nn.Parameter(weight)
    if bias is not None:
        module.bias = nn.Parameter(bias)
    return module


def _batch_norm(
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
    return module


def _parametric_relu(weight: torch.Tensor) -> nn.Module:
    return _with_weights(nn.PReLU(weight.numel(), device="meta"), weight, None)


def _max_pool(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    def make(
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> nn.Module:
        return kind(kernel_size, stride, padding, dilation, return_indices, ceil_mode)

    return make


def _dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module | None:
    return None if training else nn.Identity()


def _clamp(min: Any = None, max: Any = None) -> nn.Module | None:
    largest = sys.float_info.max
    low, high = (-largest if min is None else min), (largest if max is None else max)
    fits = all(isinstance(end, int | float) for end in (low, high)) and low < high
    return nn.Hardtanh(float(low), float(high)) if fits else None


def _interpolate(*args: Any, antialias: bool = False, **kwargs: Any) -> nn.Module | None:
    return None if antialias else nn.Upsample(*args, **kwargs)


def _pool(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    if pair(module.dilation) != (1, 1):
        raise refused(name, f"{type(module).__name__} with dilation")
    stride = module.stride or module.kernel_size
    if isinstance(module, nn.MaxPool1d):
        kernel, stride, padding = ((1, *_single(v)) for v in (module.kernel_size, stride, module.padding))
        layer = MaxPool(name, kernel, stride, (0, padding[1]), module.ceil_mode)
        return [*linear.as_row(name, shape, layer), Reshape(f"{name} row", output_shape)]
    return [MaxPool(name, pair(module.kernel_size), pair(stride), pair(module.padding), module.ceil_mode)]


def _single(value: Any) -> tuple[int]:
    return (value,) if isinstance(value, int) else (value[0],)


def _adaptive_max_pool(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    if shape[1] % output_shape[1] or shape[2] % output_shape[2]:
        raise refused(name, f"AdaptiveMaxPool2d of {shape[1:]} to {output_shape[1:]}: it does not divide evenly")
    kernel = (shape[1] // output_shape[1], shape[2] // output_shape[2])
    return [MaxPool(name, kernel, kernel)]


def _moved(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    layers = moved(name, module, shape, output_shape, getattr(module, "n_examples", 2))
    if layers is None:
        kind = getattr(module, "operation", type(module).__name__)
        raise refused(name, f"{kind} of {shape} to {output_shape}")
    return layers


def _elementwise(kind: str) -> Callable[[str, Any, Shape, Shape], list[Layer]]:
    def converter(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
        parameters = tuple(float(getattr(module, parameter)) for parameter in ACTIVATIONS[kind].parameters)
        return [Activation(name, kind, parameters=parameters)]

    return converter


def _gelu(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    return [Activation(name, "gelu" if module.approximate == "none" else "gelu_tanh")]


def _leaky_relu(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    return [Activation(name, "leaky_relu", float(module.negative_slope))]


def _randomized_relu(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    return [Activation(name, "leaky_relu", (module.lower + module.upper) / 2)]


def _prelu(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    slopes = numbers(module.weight)
    return [Activation(name, "leaky_relu", float(slopes[0]) if slopes.size == 1 else slopes)]


def _threshold(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    if module.threshold != module.value:
        raise refused(name, f"Threshold that jumps from {module.value} to {module.threshold}")
    return [Activation(name, "hardtanh", parameters=(float(module.threshold), sys.float_info.max))]


_CLASSES: dict[str, type[nn.Module]] = {
    kind: getattr(nn, row.torch) for kind, row in ACTIVATIONS.items() if row.torch and kind != "identity"
} | {"abs": Abs}

_CONVERTERS: dict[type[nn.Module], Callable[[str, Any, Shape, Shape], list[Layer]]] = {
    **dict.fromkeys(DROPPED, lambda name, module, shape, output_shape: []),
    nn.Conv1d: linear.conv1d,
    nn.Conv2d: linear.conv2d,
    nn.ConvTranspose2d: linear.conv_transpose2d,
    nn.Linear: linear.dense,
    **dict.fromkeys(BATCH_NORMS, linear.batch_norm),
    nn.AvgPool2d: linear.average_pool,
    nn.AdaptiveAvgPool2d: linear.adaptive_average_pool,
    **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), linear.separable),
    Reduced: linear.reduced,
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d), _pool),
    nn.AdaptiveMaxPool2d: _adaptive_max_pool,
    **dict.fromkeys((Moving, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), _moved),
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d), _moved),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d), _moved),
    **dict.fromkeys((nn.CircularPad1d, nn.CircularPad2d), _moved),
    **{kind: _elementwise(name) for name, kind in _CLASSES.items()},
    nn.ReLU6: _elementwise("hardtanh"),
    nn.GELU: _gelu,
    nn.LeakyReLU: _leaky_relu,
    nn.PReLU: _prelu,
    nn.RReLU: _randomized_relu,
    nn.Threshold: _threshold,
}

_FUNCTIONS: dict[object, Callable[..., nn.Module | None]] = {
    **{
        getattr(home, function): _CLASSES[kind]
        for kind in _CLASSES
        for function in ACTIVATIONS[kind].functions
        for home in (torch, F)
        if hasattr(home, function)
    },
    operator.abs: Abs,
    F.relu6: nn.ReLU6,
    F.prelu: _parametric_relu,
    F.threshold: nn.Threshold,
    torch.clamp: _clamp,
    torch.clip: _clamp,
    F.linear: _linear,
    torch.matmul: _matmul,
    operator.matmul: _matmul,
    F.conv1d: _convolution(nn.Conv1d),
    F.conv2d: _convolution(nn.Conv2d),
    F.conv_transpose2d: _transposed,
    F.batch_norm: _batch_norm,
    F.max_pool1d: _max_pool(nn.MaxPool1d),
    F.max_pool2d: _max_pool(nn.MaxPool2d),
    torch.max_pool2d: _max_pool(nn.MaxPool2d),
    F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.interpolate: _interpolate,
    torch.mean: lambda dim=None, keepdim=False: Reduced(True, dim, keepdim),
    torch.sum: lambda dim=None, keepdim=False: Reduced(False, dim, keepdim),
    F.dropout: _dropout,
    F.dropout2d: _dropout,
}
