"""The torch call of each ONNX operator: of a `Step` its value, or the list of its outputs."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from certlip.onnx import shapes, windows
from certlip.onnx.gates import gated
from certlip.onnx.steps import Step
from certlip.pytorch.building import Value

Operator = Callable[[Step], Value | list[Value]]


def _elementwise(function: Callable[..., Any]) -> Operator:
    return lambda step: step.build.on_held(function, step.value())


def _with_number(function: Callable[..., Any], attribute: str, default: float) -> Operator:
    return lambda step: step.build.on_held(function, step.value(), float(step.get(attribute, default)))


def _same(step: Step) -> Value:
    return step.value()


def _dropout(step: Step) -> Value:
    training = step.known(2)
    if training is not None and training.any():
        raise step.refused(" in training mode")
    return step.value()


def _cast(step: Step) -> Value:
    if step.get("to") not in FLOATS:
        raise step.refused(" to whole numbers")
    return step.value()


FLOATS = (1, 10, 11, 16)
"""ONNX's numbers for float, half, double and bfloat16."""


def _selu(step: Step) -> Value:
    alpha, gamma = step.get("alpha", _SELU[0]), step.get("gamma", _SELU[1])
    if (alpha, gamma) == _SELU:
        return step.build.on_held(F.selu, step.value())
    bent = step.build.on_held(F.elu, step.value(), alpha)
    return step.build.on_held(operator.mul, bent, gamma)


_SELU = (1.6732631921768188, 1.0507010221481323)
"""The defaults, which are torch's in single precision."""


def _gelu(step: Step) -> Value:
    return step.build.on_held(F.gelu, step.value(), approximate=step.get("approximate", "none"))


def _hard_sigmoid(step: Step) -> Value:
    build, alpha, beta = step.build, step.get("alpha", 0.2), step.get("beta", 0.5)
    line = build.on_held(operator.add, build.on_held(operator.mul, step.value(), alpha), beta)
    return build.on_held(torch.clamp, line, min=0.0, max=1.0)


def _clip(step: Step) -> Value:
    low, high = (step.given(name, place) for place, name in enumerate(("min", "max"), start=1))
    if low is None and high is None:
        return step.value()
    if low == 0 and high is None:
        return step.build.on_held(F.relu, step.value())
    ends = {name: float(end) for name, end in (("min", low), ("max", high)) if end is not None}
    return step.build.on_held(torch.clamp, step.value(), **ends)


def _prelu(step: Step) -> Value:
    value, slope = step.value(), step.needed(1)
    if slope.size == 1:
        return step.build.on_held(F.prelu, value, slope.reshape(1))
    held = step.build.as_held(value, np.broadcast_to(slope, value.shape))
    channels = held.reshape(1, held.shape[1], -1)[0, :, :1]
    if (held.reshape(held.shape[1], -1) != channels).any():
        raise step.refused(" with more than one slope a channel")
    return step.build.on_held(F.prelu, value, channels[:, 0])


def _arithmetic(function: Callable[..., Any]) -> Operator:
    return lambda step: step.build.arithmetic(function, *step.operands)


def _sum(step: Step) -> Value:
    total = step.value()
    for term in step.operands[1:]:
        total = step.build.arithmetic(operator.add, total, term)
    return total


def _mul(step: Step) -> Value:
    first, second = step.operands
    return gated(step.build, first, second) or step.build.arithmetic(operator.mul, first, second)


def _gemm(step: Step) -> Value:
    if step.get("transA", 0):
        raise step.refused(" with transA")
    weight, bias = step.needed(1), step.known(2)
    weight = step.get("alpha", 1.0) * (weight if step.get("transB", 0) else weight.T)
    if bias is not None:
        bias = step.get("beta", 1.0) * np.broadcast_to(bias, (1, len(weight)))[0]
    return step.build.linear(step.value(), weight, bias)


def _matmul(step: Step) -> Value:
    first, second = step.inputs
    if isinstance(first, Value) and isinstance(second, np.ndarray) and second.ndim == 2:
        return step.build.linear(first, second.T)
    is_column = isinstance(second, Value) and len(second.shape) == 3 and second.shape[-1] == 1
    if isinstance(first, np.ndarray) and first.ndim == 2 and isinstance(second, Value) and is_column:
        flat = step.build.reshaped(second, second.shape[:2])
        return step.build.reshaped(step.build.linear(flat, first), (1, len(first), 1))
    return step.call(torch.matmul, *step.build.of_one_rank(*step.operands))


def _batch_normalization(step: Step) -> Value:
    scale, shift, mean, variance = (step.needed(place) for place in range(1, 5))
    if step.get("training_mode", 0):
        raise step.refused(" in training mode")
    epsilon = step.get("epsilon", 1e-5)
    return step.call(F.batch_norm, step.value(), mean, variance, scale, shift, False, 0.0, epsilon)


def _softmax(function: Callable[..., Any]) -> Operator:
    def call(step: Step) -> Value:
        axis, value = step.axis(step.get("axis", -1 if step.opset >= 13 else 1)), step.value()
        if step.opset >= 13 or axis == len(value.shape) - 1:
            return step.call(function, value, axis)
        if axis == 0:
            raise step.refused(" of all axes, that of the batch included")
        # of all axes from one on, as one
        rows, row = (math.prod(part) for part in (value.shape[1:axis], value.shape[axis:]))
        flat = step.call(function, step.build.reshaped(value, (1, rows, row)), 2)
        return step.build.reshaped(flat, value.shape)

    return call


def _extreme(largest: bool) -> Operator:
    return lambda step: step.build.extreme(largest, *step.operands)


def _layer_normalization(step: Step) -> Value:
    shape = step.value().shape[step.axis(step.get("axis", -1)) :]
    weight, bias = (np.broadcast_to(k, shape) if (k := step.known(p)) is not None else None for p in (1, 2))
    return step.call(F.layer_norm, step.value(), shape, weight, bias, step.get("epsilon", 1e-5))


def _reduce(function: Callable[..., Any]) -> Operator:
    def call(step: Step) -> Value:
        axes = step.given("axes", 1)
        if not axes and step.get("noop_with_empty_axes", 0):
            return step.value()
        chosen = {step.axis(axis) for axis in axes or range(len(step.value().shape))}
        return step.build.reduced(function, step.value(), chosen, bool(step.get("keepdims", 1)))

    return call


OPERATORS: dict[str, Operator] = {
    "Relu": _elementwise(F.relu),
    "Sigmoid": _elementwise(torch.sigmoid),
    "Tanh": _elementwise(torch.tanh),
    "Abs": _elementwise(torch.abs),
    "Neg": _elementwise(torch.neg),
    "Softplus": _elementwise(F.softplus),
    "Erf": _elementwise(torch.erf),
    "Softsign": _elementwise(F.softsign),
    "HardSwish": _elementwise(F.hardswish),
    "Mish": _elementwise(F.mish),
    "Gelu": _gelu,
    "LeakyRelu": _with_number(F.leaky_relu, "alpha", 0.01),
    "Elu": _with_number(F.elu, "alpha", 1.0),
    "Celu": _with_number(F.celu, "alpha", 1.0),
    "Selu": _selu,
    "HardSigmoid": _hard_sigmoid,
    "Clip": _clip,
    "PRelu": _prelu,
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "Add": _arithmetic(operator.add),
    "Sub": _arithmetic(operator.sub),
    "Mul": _mul,
    "Div": _arithmetic(operator.truediv),
    "Sum": _sum,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
    "Max": _extreme(True),
    "Min": _extreme(False),
    **shapes.OPERATORS,
    **windows.OPERATORS,
}
"""By the name of the operator."""
