"""Activations that files write as a product of a value with what is computed from it, where ONNX has, or had, no
operator for them."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from certlip.pytorch.building import Builder, Operand, Value

_RTOL = 1e-6
"""Of the root of two in a file, which is rounded: the slopes of x (1 + erf(c x)) / 2 are the same for any c."""


def gated(build: Builder, first: Operand, second: Operand) -> Value | None:
    """The product of two operands as SiLU, Mish or GELU of a value; None for any other product."""
    views = [operand.views for operand in (first, second) if isinstance(operand, Value)]
    if any(view != views[0] for view in views):
        return None
    operands: list[Any] = [operand.node if isinstance(operand, Value) else operand for operand in (first, second)]
    for x, gate in (operands, operands[::-1]):
        if _is_call(gate, torch.sigmoid) and gate.args[0] is x:
            return build.on_held(F.silu, build.value_of(x, views[0]))
        if _is_call(gate, torch.tanh) and _is_call(gate.args[0], F.softplus) and gate.args[0].args[0] is x:
            return build.on_held(F.mish, build.value_of(x, views[0]))
    for x in filter(None, map(_of_error_function, [leaf for o in operands for leaf in _leaves(o)])):
        leaves = [leaf for o in operands for leaf in _leaves(o, x)]
        nodes = [leaf for leaf in leaves if isinstance(leaf, fx.Node)]
        half = math.prod(float(leaf) for leaf in leaves if not isinstance(leaf, fx.Node)) == 0.5
        if half and len(nodes) == 2 and nodes.count(x) == 1:
            return build.on_held(F.gelu, build.value_of(x, views[0]))
    return None


def _leaves(operand: Any, whole: fx.Node | None = None) -> Iterator[Any]:
    """What is multiplied in an operand, one after the other; whole: a node that is left as it is."""
    if operand is not whole and _is_call(operand, operator.mul):
        for factor in operand.args:
            yield from _leaves(factor, whole)
    else:
        yield operand


def _of_error_function(operand: Any) -> fx.Node | None:
    """The x of 1 + erf(x / sqrt 2)."""
    error, one = _with_number(operand, operator.add)
    if one == 1.0 and _is_call(error, torch.erf):
        x, scale = _with_number(error.args[0], operator.mul)
        return x if abs(scale * math.sqrt(2) - 1) < _RTOL else None
    return None


def _with_number(operand: Any, function: object) -> tuple[Any, float]:
    """The operand and the number of a call of two; not a number for anything else."""
    if _is_call(operand, function):
        first, second = operand.args
        if isinstance(second, float):
            return first, second
        if isinstance(first, float):
            return second, first
    return None, math.nan


def _is_call(operand: Any, function: object) -> bool:
    return isinstance(operand, fx.Node) and operand.target is function
