"""The torch call of each call in a program of torch.export: of the aten operator, its arguments by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from certlip.network import Shape
from certlip.pytorch.building import Builder, Value
from certlip.pytorch.ordering import sorted_values

Arguments = Mapping[str, Any]
Call = Callable[[Builder, Arguments], Value | list[Value]]

_NAMES = """
    _to_copy _weight_norm _weight_norm_interface abs add arange cat clone detach div exp expand full lift_fresh_copy
    linalg_vector_norm mean mul neg numpy_T ones permute pow reciprocal reshape rsqrt rsub slice sqrt squeeze sub sum t
    to transpose unsqueeze view zeros
"""
KNOWN = frozenset(_NAMES.split())
"""Operators that are run while a program is read: they only compute."""


def _of(function: Callable[..., Any], *names: str) -> Call:
    """A function that takes the arguments of these names, in their order, as far as the program gives them."""

    def call(build: Builder, args: Arguments) -> Value:
        value = _value(build, args)
        return build.call(function, value, **{name: args[name] for name in names if args.get(name) is not None})

    return call


def _elementwise(function: Callable[..., Any], *names: str) -> Call:
    def call(build: Builder, args: Arguments) -> Value:
        given = {name: args[name] for name in names if args.get(name) is not None}
        return build.on_held(function, _value(build, args), **given)

    return call


def _value(build: Builder, args: Arguments) -> Value:
    value = args["self"] if "self" in args else args["input"]
    if not isinstance(value, Value):
        raise build.refused(" of a constant")
    return value


def _same(build: Builder, args: Arguments) -> Value:
    return _value(build, args)


def _dropout(build: Builder, args: Arguments) -> Value:
    if args.get("train"):
        raise build.refused(" in training mode; export the program in eval mode")
    return _value(build, args)


def _arithmetic(function: Callable[..., Any], first: str = "self", second: str = "other") -> Call:
    def call(build: Builder, args: Arguments) -> Value:
        if args.get("alpha", 1) != 1 or args.get("rounding_mode") is not None:
            raise build.refused(" with alpha or rounding_mode")
        return build.arithmetic(function, args[first], args[second])

    return call


def _batch_norm(build: Builder, args: Arguments) -> Value:
    if args.get("training"):
        raise build.refused(" in training mode; export the program in eval mode")
    means = args["running_mean"], args["running_var"]
    return build.call(F.batch_norm, args["input"], *means, args["weight"], args["bias"], False, 0.0, args["eps"])


def _linear(build: Builder, args: Arguments) -> Value:
    return build.linear(_value(build, args), args["weight"], args.get("bias"))


def _addmm(build: Builder, args: Arguments) -> Value:
    weight, first = args["mat2"], args.get("mat1", args.get("self"))
    if args.get("alpha", 1) != 1 or args.get("beta", 1) != 1 or not isinstance(weight, np.ndarray):
        raise build.refused(" of two values, or with alpha or beta")
    bias = args["self"] if "mat1" in args else None
    return build.linear(first, weight.T, bias)


def _cat(build: Builder, args: Arguments) -> Value:
    return build.call(torch.cat, args["tensors"], args.get("dim", 0))


def _mean(function: Callable[..., Any]) -> Call:
    def call(build: Builder, args: Arguments) -> Value:
        value = _value(build, args)
        rank = len(value.shape)
        axes = {axis % rank for axis in args.get("dim") or range(rank)}
        return build.reduced(function, value, axes, bool(args.get("keepdim")))

    return call


def _view(build: Builder, args: Arguments) -> Value:
    value = _value(build, args)
    asked = args["size"] if "size" in args else args["shape"]
    return build.reshaped(value, np.empty(value.shape, np.bool_).reshape(asked).shape)


def _flatten(build: Builder, args: Arguments) -> Value:
    value = _value(build, args)
    rank = len(value.shape)
    first, last = args.get("start_dim", 0) % rank, args.get("end_dim", -1) % rank
    merged = math.prod(value.shape[first : last + 1])
    return build.reshaped(value, (*value.shape[:first], merged, *value.shape[last + 1 :]))


def _squeeze(build: Builder, args: Arguments) -> Value:
    value = _value(build, args)
    asked = args.get("dim", [])
    axes = {axis % len(value.shape) for axis in (asked if isinstance(asked, list) else [asked])}
    return build.reshaped(value, _without(value.shape, axes))


def _without(shape: Shape, axes: set[int]) -> Shape:
    """torch leaves an axis that is not of length one."""
    return tuple(n for axis, n in enumerate(shape) if n != 1 or axis not in axes)


def _unsqueeze(build: Builder, args: Arguments) -> Value:
    value = _value(build, args)
    axis = args["dim"] % (len(value.shape) + 1)
    return build.reshaped(value, (*value.shape[:axis], 1, *value.shape[axis:]))


def _permute(build: Builder, args: Arguments) -> Value:
    value = _value(build, args)
    return build.permuted(value, tuple(axis % len(value.shape) for axis in args["dims"]))


def _transpose(build: Builder, args: Arguments) -> Value:
    value = _value(build, args)
    axes = list(range(len(value.shape)))
    first, second = args["dim0"] % len(axes), args["dim1"] % len(axes)
    axes[first], axes[second] = axes[second], axes[first]
    return build.permuted(value, tuple(axes))


def _slice(build: Builder, args: Arguments) -> Value:
    value, axis = _value(build, args), args.get("dim", 0)
    axis %= len(value.shape)
    return build.cut(value, {axis: range(value.shape[axis])[args.get("start") : args.get("end") : args.get("step", 1)]})


def _split(build: Builder, args: Arguments) -> list[Value]:
    value, axis = _value(build, args), args.get("dim", 0)
    axis %= len(value.shape)
    size = value.shape[axis]
    if "chunks" in args:
        asked: Any = -(-size // args["chunks"])
    else:
        asked = args["split_size"] if "split_size" in args else args["split_sizes"]
    sizes = asked if isinstance(asked, list) else [min(asked, size - first) for first in range(0, size, asked)]
    ends = np.cumsum(sizes).tolist()
    return [build.cut(value, {axis: range(end - n, end)}) for n, end in zip(sizes, ends, strict=True)]


def _select(build: Builder, args: Arguments) -> Value:
    value = _value(build, args)
    axis = args["dim"] % len(value.shape)
    return build.call(torch.select, value, axis, args["index"])


def _sort(build: Builder, args: Arguments) -> list[Value]:
    return [build.call(sorted_values, _value(build, args), args.get("dim", -1), args.get("descending", False))]


def _extreme(largest: bool) -> Call:
    """Along an axis, whose places nothing may use, or of two values."""

    def call(build: Builder, args: Arguments) -> Value | list[Value]:
        if "other" in args:
            return build.extreme(largest, args["self"], args["other"])
        if args.get("dim") in (None, []):
            raise build.refused(" of everything, the examples of a batch included")
        reduce = torch.amax if largest else torch.amin
        return [build.call(reduce, _value(build, args), args["dim"], args.get("keepdim", False))]

    return call


def _layer_norm(build: Builder, args: Arguments) -> Value:
    more = args["normalized_shape"], args.get("weight"), args.get("bias"), args.get("eps", 1e-5)
    return build.call(F.layer_norm, _value(build, args), *more)


_CONVOLUTION = ("weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVERAGE_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

CALLS: dict[str, Call] = {
    "conv1d": _of(F.conv1d, *_CONVOLUTION),
    "conv2d": _of(F.conv2d, *_CONVOLUTION),
    "conv3d": _of(F.conv3d, *_CONVOLUTION),
    "conv_transpose1d": _of(F.conv_transpose1d, *_TRANSPOSED),
    "conv_transpose2d": _of(F.conv_transpose2d, *_TRANSPOSED),
    "conv_transpose3d": _of(F.conv_transpose3d, *_TRANSPOSED),
    "linear": _linear,
    "addmm": _addmm,
    "mm": _addmm,
    "batch_norm": _batch_norm,
    "max_pool1d": _of(F.max_pool1d, *_MAX_POOL),
    "max_pool2d": _of(F.max_pool2d, *_MAX_POOL),
    "max_pool3d": _of(F.max_pool3d, *_MAX_POOL),
    "avg_pool1d": _of(F.avg_pool1d, *_AVERAGE_POOL[:-1]),
    "avg_pool2d": _of(F.avg_pool2d, *_AVERAGE_POOL),
    "avg_pool3d": _of(F.avg_pool3d, *_AVERAGE_POOL),
    "adaptive_avg_pool1d": _of(F.adaptive_avg_pool1d, "output_size"),
    "adaptive_avg_pool2d": _of(F.adaptive_avg_pool2d, "output_size"),
    "adaptive_avg_pool3d": _of(F.adaptive_avg_pool3d, "output_size"),
    "pad": _of(F.pad, "pad", "mode", "value"),
    "constant_pad_nd": _of(F.pad, "pad", "value"),
    "relu": _elementwise(F.relu),
    "sigmoid": _elementwise(torch.sigmoid),
    "tanh": _elementwise(torch.tanh),
    "abs": _elementwise(torch.abs),
    "neg": _elementwise(torch.neg),
    "leaky_relu": _elementwise(F.leaky_relu, "negative_slope"),
    "prelu": _of(F.prelu, "weight"),
    "elu": _elementwise(F.elu, "alpha"),
    "selu": _elementwise(F.selu),
    "celu": _elementwise(F.celu, "alpha"),
    "softplus": _elementwise(F.softplus, "beta", "threshold"),
    "hardtanh": _elementwise(F.hardtanh, "min_val", "max_val"),
    "relu6": _elementwise(F.relu6),
    "hardsigmoid": _elementwise(F.hardsigmoid),
    "hardswish": _elementwise(F.hardswish),
    "silu": _elementwise(F.silu),
    "gelu": _elementwise(F.gelu, "approximate"),
    "mish": _elementwise(F.mish),
    "clamp": _elementwise(torch.clamp, "min", "max"),
    "add": _arithmetic(operator.add),
    "sub": _arithmetic(operator.sub),
    "rsub": _arithmetic(operator.sub, "other", "self"),
    "mul": _arithmetic(operator.mul),
    "div": _arithmetic(operator.truediv),
    "cat": _cat,
    "chunk": _split,
    "split": _split,
    "split_with_sizes": _split,
    "slice": _slice,
    "select": _select,
    "layer_norm": _layer_norm,
    **dict.fromkeys(("softmax", "_softmax"), _of(torch.softmax, "dim")),
    **dict.fromkeys(("log_softmax", "_log_softmax"), _of(torch.log_softmax, "dim")),
    "sort": _sort,
    **dict.fromkeys(("max", "amax", "maximum"), _extreme(True)),
    **dict.fromkeys(("min", "amin", "minimum"), _extreme(False)),
    "mean": _mean(torch.mean),
    "sum": _mean(torch.sum),
    "view": _view,
    "reshape": _view,
    "_unsafe_view": _view,
    "flatten": _flatten,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "permute": _permute,
    "transpose": _transpose,
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), _dropout),
    **dict.fromkeys(("clone", "contiguous", "detach", "to", "_to_copy", "lift_fresh_copy", "alias"), _same),
}
"""By the name of the operator; those that work in place have the same with ``_`` behind it."""
