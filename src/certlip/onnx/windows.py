"""ONNX operators that slide a window, pad or resample."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from certlip.onnx.known import agrees
from certlip.onnx.steps import Step
from certlip.pytorch.building import Value

_CONVOLUTIONS: dict[int, Callable[..., Any]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Any]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOLS: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS: dict[int, Callable[..., Any]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_GLOBAL_POOLS: dict[int, Callable[..., Any]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
"""By the number of axes of an image."""

Sizes = tuple[int, ...]


def _sizes(step: Step, name: str, n_axes: int) -> Sizes:
    return tuple(step.get(name, [1] * n_axes))


def _pads(step: Step, kernel: Sizes, stride: Sizes, dilation: Sizes) -> list[tuple[int, int]]:
    """Pixels before and after each axis of the image."""
    rule = step.get("auto_pad", "NOTSET")
    if rule == "NOTSET":
        pads = step.get("pads", [0] * (2 * len(kernel)))
        return list(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
    if rule == "VALID":
        return [(0, 0)] * len(kernel)
    pairs = []
    for size, k, s, d in zip(step.value().shape[2:], kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        less = total // 2
        pairs.append((less, total - less) if rule == "SAME_UPPER" else (total - less, less))
    return pairs


def _padded(step: Step, pads: Sequence[tuple[int, int]], fill: float = 0.0) -> tuple[Value, Sizes]:
    """The input, and what torch is left to pad: it pads both sides alike."""
    if all(before == after for before, after in pads):
        return step.value(), tuple(before for before, _ in pads)
    return _pad_call(step, step.value(), pads, "constant", fill), (0,) * len(pads)


def _flat(pads: Sequence[tuple[int, int]]) -> list[int]:
    """torch lists the pairs from the last axis on."""
    return [pixels for pair in reversed(pads) for pixels in pair]


def _pad_call(step: Step, value: Value, pads: Sequence[tuple[int, int]], mode: str, fill: float) -> Value:
    flat = _flat(pads)
    while flat[-2:] == [0, 0]:
        flat = flat[:-2]
    if not flat:
        return value
    return step.call(F.pad, value, tuple(flat), mode, *([fill] if mode == "constant" else []))


def _conv(step: Step) -> Value:
    weight, n_axes = step.needed(1), step.needed(1).ndim - 2
    stride, dilation = _sizes(step, "strides", n_axes), _sizes(step, "dilations", n_axes)
    value, padding = _padded(step, _pads(step, weight.shape[2:], stride, dilation))
    groups = step.get("group", 1)
    return step.call(_CONVOLUTIONS[n_axes], value, weight, step.known(2), stride, padding, dilation, groups)


def _conv_transpose(step: Step) -> Value:
    weight, n_axes = step.needed(1), step.needed(1).ndim - 2
    stride, dilation = _sizes(step, "strides", n_axes), _sizes(step, "dilations", n_axes)
    pads = step.get("pads", [0] * (2 * n_axes))
    symmetric = pads[:n_axes] == pads[n_axes:]
    if not symmetric or step.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in step.attributes:
        raise step.refused(" whose padding is not the same on both sides")
    return step.call(
        _TRANSPOSED[n_axes],
        step.value(),
        weight,
        step.known(2),
        stride,
        tuple(pads[:n_axes]),
        tuple(step.get("output_padding", [0] * n_axes)),
        step.get("group", 1),
        dilation,
    )


def _max_pool(step: Step) -> Value:
    kernel = tuple(step.get("kernel_shape"))
    stride, dilation = _sizes(step, "strides", len(kernel)), _sizes(step, "dilations", len(kernel))
    pads = _pads(step, kernel, stride, dilation)
    value, padding = _padded(step, pads, -np.inf)
    ceil = _rounds_up(step, pads, kernel, stride, dilation)
    return _checked(step, ceil, step.call(_MAX_POOLS[len(kernel)], value, kernel, stride, padding, dilation, ceil))


def _average_pool(step: Step) -> Value:
    """Where the padding does not count, each window of an average that counts it is scaled up."""
    kernel = tuple(step.get("kernel_shape"))
    n_axes = len(kernel)
    stride, dilation = _sizes(step, "strides", n_axes), _sizes(step, "dilations", n_axes)
    if set(dilation) != {1}:
        raise step.refused(" with dilation")
    pads = _pads(step, kernel, stride, dilation)
    ceil = _rounds_up(step, pads, kernel, stride, dilation)
    value, padding = _padded(step, pads)
    pool, counts = _AVERAGE_POOLS[n_axes], bool(step.get("count_include_pad", 0))
    if counts or ceil or not np.any(pads):
        return _checked(step, ceil, step.call(pool, value, kernel, stride, padding, ceil, counts or not np.any(pads)))
    inside = F.pad(torch.ones(1, 1, *step.value().shape[2:], dtype=torch.float64), _flat(pads))
    share = pool(inside, kernel, stride)
    return step.call(operator.mul, step.call(pool, value, kernel, stride, padding), (1.0 / share).numpy())


def _rounds_up(step: Step, pads: Sequence[tuple[int, int]], kernel: Sizes, stride: Sizes, dilation: Sizes) -> bool:
    """Whether ceil_mode adds a window that reaches over the edge."""
    sizes = zip(step.value().shape[2:], pads, kernel, stride, dilation, strict=True)
    return bool(step.get("ceil_mode", 0)) and any((n + sum(p) - (k - 1) * d - 1) % s for n, p, k, s, d in sizes)


def _checked(step: Step, ceil: bool, pooled: Value) -> Value:
    """Windows that reach over the edge are what implementations differ in."""
    if ceil and not agrees(step, pooled):
        raise step.refused(" with ceil_mode, whose last windows torch has otherwise")
    return pooled


def _global_average_pool(step: Step) -> Value:
    return step.call(_GLOBAL_POOLS[len(step.value().shape) - 2], step.value(), 1)


def _global_max_pool(step: Step) -> Value:
    size = step.value().shape[2:]
    return step.call(_MAX_POOLS[len(size)], step.value(), size)


def _pad(step: Step) -> Value:
    rank = len(step.value().shape)
    listed, axes = step.given("pads", 1), step.given("axes", 3) or range(rank)
    pads = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        pads[step.axis(axis)] = listed[place], listed[place + len(axes)]
    if pads[0] != (0, 0):
        raise step.refused(" of the batch axis")
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[
        step.get("mode", "constant")
    ]
    return _pad_call(step, step.value(), pads, mode, float(step.given("value", 2, 0.0) or 0.0))


def _resize(step: Step) -> Value:
    """The mode of torch that gives what the file says."""
    value = step.value()
    scales_at = {"Upsample": 1}.get(step.operator, 1 if step.opset < 11 else 2)
    sizes, scales = step.known(3), step.given("scales", scales_at)
    if sizes is not None and sizes.size:
        out = tuple(int(n) for n in sizes)
    else:
        out = tuple(int(np.floor(n * s)) for n, s in zip(value.shape, scales, strict=True))
    if out[:2] != value.shape[:2] or "axes" in step.attributes:
        raise step.refused(f" of {value.shape} to {out}")
    mode, n_axes = step.get("mode", "nearest"), len(out) - 2
    smooth = {"linear": ["", "linear", "bilinear", "trilinear"], "cubic": ["", "", "bicubic", ""]}.get(mode)
    ways: list[dict[str, Any]] = [{"mode": "nearest"}, {"mode": "nearest-exact"}]
    if smooth is not None:
        ways = [{"mode": smooth[n_axes], "align_corners": aligned} for aligned in (False, True)]
    for way in ways:
        resized = step.call(F.interpolate, value, size=out[2:], **way)
        if agrees(_as_upsample(step) if step.opset == 10 else step, resized):
            return resized
    raise step.refused(f" in the mode {mode} as this one")


def _as_upsample(step: Step) -> Step:
    """The Resize of opset 10 is the Upsample of opset 9, and has no reference implementation of its own."""
    node = onnx.NodeProto()
    node.CopyFrom(step.node)
    node.op_type = "Upsample"
    return replace(step, node=node, opset=9)


OPERATORS: dict[str, Callable[[Step], Value | list[Value]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
}
"""By the name of the operator."""
