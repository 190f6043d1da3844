"""ONNX operators that reorder, reshape, cut and join."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from certlip.onnx.steps import Step
from certlip.pytorch.building import Value


def _transpose(step: Step) -> Value:
    value = step.value()
    reverse = range(len(value.shape))[::-1]
    return step.build.permuted(value, tuple(step.get("perm", reverse)))


def _reshape(step: Step) -> Value:
    value = step.value()
    asked = step.needed(1).tolist()
    if not step.get("allowzero", 0):
        asked = [value.shape[axis] if size == 0 else size for axis, size in enumerate(asked)]
    return step.build.reshaped(value, np.empty(value.shape, np.bool_).reshape(asked).shape)


def _flatten(step: Step) -> Value:
    shape, axis = step.value().shape, step.get("axis", 1)
    return step.build.reshaped(step.value(), (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(step: Step) -> Value:
    shape = step.value().shape
    axes = step.given("axes", 1) or [axis for axis, size in enumerate(shape) if size == 1]
    dropped = {step.axis(axis) for axis in axes}
    return step.build.reshaped(step.value(), tuple(n for axis, n in enumerate(shape) if axis not in dropped))


def _unsqueeze(step: Step) -> Value:
    shape, axes = step.value().shape, step.given("axes", 1)
    rank = len(shape) + len(axes)
    new = {step.axis(axis, rank) for axis in axes}
    sizes = iter(shape)
    return step.build.reshaped(step.value(), tuple(1 if axis in new else next(sizes) for axis in range(rank)))


def _slice(step: Step) -> Value:
    starts, ends = step.given("starts", 1), step.given("ends", 2)
    axes = step.given("axes", 3) or range(len(starts))
    strides = step.given("steps", 4) or [1] * len(starts)
    shape = step.value().shape
    cuts = zip(axes, starts, ends, strides, strict=True)
    return step.build.cut(
        step.value(), {step.axis(a): range(shape[step.axis(a)])[start:end:stride] for a, start, end, stride in cuts}
    )


def _split(step: Step) -> list[Value]:
    axis = step.axis(step.get("axis", 0))
    size, n_parts = step.value().shape[axis], len(step.node.output)
    largest = -(-size // n_parts)
    sizes = step.given("split", 1) or [min(largest, size - k * largest) for k in range(n_parts)]
    ends = np.cumsum(sizes).tolist()
    return [step.build.cut(step.value(), {axis: range(end - n, end)}) for n, end in zip(sizes, ends, strict=True)]


def _gather(step: Step) -> Value:
    value, places, axis = step.value(), step.needed(1), step.axis(step.get("axis", 0))
    places = places % value.shape[axis]
    if axis == 0 or places.ndim > 1:
        raise step.refused(f" of indices of shape {places.shape} along axis {axis}")
    if places.ndim == 0:
        return step.call(torch.select, value, axis, int(places))
    return step.call(torch.index_select, value, axis, places.astype(np.int64))


def _concat(step: Step) -> Value:
    values = [step.value(place) for place in range(len(step.inputs))]
    axis = step.axis(step.get("axis", 1))
    axes = values[0].axes
    if axes is None or any(value.views != values[0].views for value in values):
        return step.call(torch.cat, values, axis)
    return step.build.on_held(torch.cat, values, axes[axis])


OPERATORS: dict[str, Callable[[Step], Value | list[Value]]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Concat": _concat,
}
"""By the name of the operator."""
