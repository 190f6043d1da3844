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
from certlip.pytorch import linear, ordering, volumes
from certlip.pytorch.linear import Reduced, numbers, refused
from certlip.pytorch.modules import Abs, Sorted
from certlip.pytorch.moving import Moving, moved

DROPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
BATCH_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)

TENSORS = (torch.Tensor, nn.Parameter)
"""Classes of tensors whose arithmetic is torch's own."""

_BY_ITS_SPREAD = " (it divides by the spread of its input, which no constant bounds; BatchNorm in eval mode does not)"
_PRODUCT = " (a product of values that both depend on the input has no constant)"
WHY_NOT = {
    **dict.fromkeys(("LayerNorm", "layer_norm", "GroupNorm", "group_norm", "normalize"), _BY_ITS_SPREAD),
    **dict.fromkeys(("MultiheadAttention", "scaled_dot_product_attention", "matmul", "bmm", "Bilinear"), _PRODUCT),
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


def _transposed(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    def make(
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> nn.Module:
        c_in, c_out, *kernel = weight.shape
        module = kind(
            c_in,
            c_out * groups,
            tuple(kernel),
            stride,
            padding,
            output_padding,
            groups,
            bias is not None,
            dilation,
            device="meta",
        )
        return _with_weights(module, weight, bias)

    return make


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


def _softmax(kind: type[nn.Module]) -> Callable[..., nn.Module | None]:
    def make(dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> nn.Module | None:
        return kind(dim) if dtype in (None, torch.float64) else None

    return make


_SOFTMAXES: dict[str, type[nn.Module]] = {"softmax": nn.Softmax, "log_softmax": nn.LogSoftmax}


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
    n_axes = len(shape) - 1
    options = (module.kernel_size, module.stride or module.kernel_size, module.padding, module.dilation)
    kernel, stride, padding, dilation = ((v,) * n_axes if isinstance(v, int) else tuple(v) for v in options)
    if {*dilation} != {1} or module.return_indices:
        what = "with dilation" if {*dilation} != {1} else "whose places are used"
        raise refused(name, f"{type(module).__name__} {what}")
    return _max_windows(name, kernel, stride, padding, module.ceil_mode, shape, output_shape)


def _max_windows(
    name: str, kernel: Shape, stride: Shape, padding: Shape, ceil: bool, shape: Shape, output_shape: Shape
) -> list[Layer]:
    """Of a row, a map or a volume."""
    windows = list(zip(kernel, stride, padding, strict=True))
    if len(windows) == 3:
        return volumes.max_pool(name, windows, ceil, shape)
    (k_h, s_h, p_h), (k_w, s_w, p_w) = [(1, 1, 0), *windows][-2:]
    layer = MaxPool(name, (k_h, k_w), (s_h, s_w), (p_h, p_w), ceil)
    if len(windows) == 2:
        return [layer]
    return [*linear.as_row(name, shape, layer), Reshape(f"{name} row", output_shape)]


def _adaptive_max_pool(name: str, module: Any, shape: Shape, output_shape: Shape) -> list[Layer]:
    if any(n % m for n, m in zip(shape[1:], output_shape[1:], strict=True)):
        kind = type(module).__name__
        raise refused(name, f"{kind} of {shape[1:]} to {output_shape[1:]}: it does not divide evenly")
    kernel = tuple(n // m for n, m in zip(shape[1:], output_shape[1:], strict=True))
    return _max_windows(name, kernel, kernel, (0,) * len(kernel), False, shape, output_shape)


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
    nn.Conv3d: linear.conv3d,
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), linear.conv_transpose),
    nn.Linear: linear.dense,
    **dict.fromkeys(BATCH_NORMS, linear.batch_norm),
    nn.AvgPool2d: linear.average_pool,
    nn.AvgPool3d: linear.average_pool_of_volumes,
    nn.AdaptiveAvgPool2d: linear.adaptive_average_pool,
    **dict.fromkeys((nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool3d), linear.separable),
    **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), linear.separable),
    Reduced: linear.reduced,
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _pool),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), _adaptive_max_pool),
    Sorted: ordering.sorting,
    ordering.Extreme: ordering.extreme_along,
    ordering.ExtremeOfParts: ordering.extreme_of_parts,
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax), ordering.softmax),
    nn.Softmax2d: ordering.softmax_of_channels,
    **dict.fromkeys((Moving, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), _moved),
    **{getattr(nn, f"{pad}Pad{n}d"): _moved for pad in ("Zero", "Constant", "Circular") for n in (1, 2, 3)},
    **{getattr(nn, f"{pad}Pad{n}d"): _moved for pad in ("Reflection", "Replication") for n in (1, 2, 3)},
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
    F.conv3d: _convolution(nn.Conv3d),
    F.conv_transpose1d: _transposed(nn.ConvTranspose1d),
    F.conv_transpose2d: _transposed(nn.ConvTranspose2d),
    F.conv_transpose3d: _transposed(nn.ConvTranspose3d),
    F.batch_norm: _batch_norm,
    F.max_pool1d: _max_pool(nn.MaxPool1d),
    F.max_pool2d: _max_pool(nn.MaxPool2d),
    torch.max_pool2d: _max_pool(nn.MaxPool2d),
    F.max_pool3d: _max_pool(nn.MaxPool3d),
    F.adaptive_max_pool1d: nn.AdaptiveMaxPool1d,
    F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
    F.adaptive_max_pool3d: nn.AdaptiveMaxPool3d,
    F.avg_pool1d: nn.AvgPool1d,
    F.avg_pool2d: nn.AvgPool2d,
    F.avg_pool3d: nn.AvgPool3d,
    F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.adaptive_avg_pool3d: nn.AdaptiveAvgPool3d,
    F.interpolate: _interpolate,
    torch.mean: lambda dim=None, keepdim=False: Reduced(True, dim, keepdim),
    torch.sum: lambda dim=None, keepdim=False: Reduced(False, dim, keepdim),
    **dict.fromkeys((torch.sort, ordering.sorted_values), Sorted),
    **{getattr(torch, name): ordering.extreme(name.endswith("max")) for name in ("max", "min", "amax", "amin")},
    **{getattr(torch, name): ordering.limit(name == "maximum") for name in ("maximum", "minimum")},
    **{getattr(home, name): _softmax(kind) for home in (torch, F) for name, kind in _SOFTMAXES.items()},
    F.dropout: _dropout,
    F.dropout2d: _dropout,
}
