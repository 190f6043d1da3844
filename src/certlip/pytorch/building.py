"""A torch module built call by call from what a file says, and run on one example while it is built.

Reordering and reshaping is kept beside a value until a call needs it: a transposition that another one undoes, or that
a dense layer can take into its weights, is no call.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from certlip.base.errors import ExportError, UnsupportedLayer
from certlip.network import Shape
from certlip.pytorch.layers import refused
from certlip.pytorch.tracing import NAME, Traced, first_line

Known = NDArray[Any]
"""A value that depends on no input."""

_RTOL = 1e-9
"""Largest difference between an example alone and among others, relative to the largest output."""


@dataclass(frozen=True)
class View:
    """The same numbers in another order (axes: as of `torch.permute`) or shape (without the batch axis); name: of the
    step that says so."""

    axes: tuple[int, ...] = ()
    shape: Shape = ()
    name: str = field(default="", compare=False)

    @property
    def call(self) -> tuple[Callable[..., Any], tuple[int, ...]]:
        return (torch.permute, self.axes) if self.axes else (torch.reshape, (-1, *self.shape))

    def __call__(self, tensor: Tensor) -> Tensor:
        function, argument = self.call
        return cast(Tensor, function(tensor, argument))


@dataclass(frozen=True, eq=False)
class Value:
    """A value that depends on the input; its first axis is that of the batch.

    node: of the graph, whose value for one example is `held`; views: what leads from there to the value.
    """

    node: fx.Node
    held: Tensor
    views: tuple[View, ...] = ()

    @property
    def example(self) -> Tensor:
        """The value for one example."""
        return self._seen(self.held)

    @property
    def shape(self) -> Shape:
        return tuple(self.example.shape)

    @property
    def order(self) -> NDArray[np.intp]:
        """For each entry of the value its place among those of `held`, row by row."""
        places = torch.arange(self.held.numel()).reshape(self.held.shape)
        return np.asarray(self._seen(places).numpy(), np.intp)

    @property
    def axes(self) -> tuple[int, ...] | None:
        """For each axis of the value that of `held`; None if it was reshaped."""
        match self.views:
            case ():
                return tuple(range(self.held.ndim))
            case (View(axes),) if axes:
                return axes
        return None

    def viewed(self, view: View) -> Value:
        """Another view of the same numbers; two permutations or two shapes in a row are one."""
        *before, last = self.views or (None,)
        if last is None or bool(last.axes) != bool(view.axes):
            return replace(self, views=(*self.views, view))
        both = replace(view, axes=tuple(last.axes[a] for a in view.axes)) if view.axes else view
        return replace(self, views=(*before, both))

    def _seen(self, tensor: Tensor) -> Tensor:
        for view in self.views:
            tensor = view(tensor)
        return tensor


Operand = Value | Known | float


@dataclass
class Builder:
    """The graph so far; name, operator: of the step of the file that is being read, as errors name it."""

    name: str = ""
    operator: str = ""
    graph: fx.Graph = field(default_factory=fx.Graph)
    tensors: nn.Module = field(default_factory=nn.Module)
    _held: dict[fx.Node, Tensor] = field(default_factory=dict)

    def input(self, shape: Shape) -> Value:
        """The network's input; shape: without a batch axis."""
        generator = torch.Generator().manual_seed(0)
        held = torch.randn(1, *shape, dtype=torch.float64, generator=generator)
        return self._kept(self.graph.placeholder("inputs"), held)

    def value_of(self, node: fx.Node, views: tuple[View, ...]) -> Value:
        """A value that was made before, seen so."""
        return Value(node, self._held[node], views)

    def refused(self, why: str = "") -> UnsupportedLayer:
        """`why`: what follows the operator in the sentence."""
        return refused(self.name, self.operator + why)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Value:
        """A call of a torch function; arrays among the arguments become tensors of the module."""
        return self._call(function, _each(list(args), self._settled), kwargs)

    def on_held(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Value:
        """The same on what the values among the arguments are computed from, all in the same order: for a function that
        treats all numbers alike, or is told the axes in that order."""
        views: list[tuple[View, ...]] = []
        _each(list(args), lambda a: views.append(a.views) if isinstance(a, Value) else None)
        return replace(self._call(function, _each(list(args), _held), kwargs), views=views[0])

    def arithmetic(self, function: Callable[..., Any], first: Operand, second: Operand) -> Value:
        """A function of `operator` of two values, or of a value and numbers, entry by entry."""
        first, second = self.of_one_rank(first, second)
        if isinstance(first, Value) and isinstance(second, Value):
            alike = first.views == second.views and first.held.shape == second.held.shape
            return (self.on_held if alike else self.call)(function, first, second)
        if isinstance(first, Value):
            return self._with_numbers(function, first, np.asarray(second), value_first=True)
        if isinstance(second, Value):
            return self._with_numbers(function, second, np.asarray(first), value_first=False)
        raise self.refused(" of constants")

    def _with_numbers(self, function: Callable[..., Any], value: Value, known: Known, value_first: bool) -> Value:
        if known.size > 1 and np.broadcast_shapes(value.shape, known.shape) != value.shape:
            return self.call(function, *((value, known) if value_first else (known, value)))
        numbers = self.as_held(value, known) if known.size > 1 else float(known.reshape(()))
        if value_first and function is operator.truediv:
            function, numbers = operator.mul, 1.0 / numbers
        return self.on_held(function, *((value, numbers) if value_first else (numbers, value)))

    def extreme(self, largest: bool, *operands: Operand) -> Value:
        """The largest or smallest of values and numbers, entry by entry."""
        values = [operand for operand in operands if isinstance(operand, Value)]
        known = [np.asarray(operand) for operand in operands if not isinstance(operand, Value)]
        if not values:
            raise self.refused(" of constants")
        function = torch.maximum if largest else torch.minimum
        found = values[0]
        for other in values[1:]:
            found = self.arithmetic(function, found, other)
        for end in known:
            if end.size > 1:
                found = self.call(function, found, end)
            elif largest and float(end.reshape(())) == 0.0:
                found = self.on_held(F.relu, found)
            else:
                found = self.on_held(torch.clamp, found, **{"min" if largest else "max": float(end.reshape(()))})
        return found

    def of_one_rank(self, *operands: Operand) -> list[Operand]:
        """With axes of length one in front of those of an example, where another operand has more."""
        rank = max(len(o.shape) if isinstance(o, Value) else np.ndim(o) for o in operands)
        return [
            self.reshaped(o, (1,) * (rank - len(o.shape) + 1) + o.shape[1:]) if isinstance(o, Value) else o
            for o in operands
        ]

    def reduced(self, function: Callable[..., Any], value: Value, axes: Set[int], keep: bool) -> Value:
        """`torch.mean` or `torch.sum` along axes, which are kept with length one or dropped."""
        shape = value.shape
        if 0 in axes and not keep:
            raise self.refused(" over the batch")
        axes = axes - {0}
        if not axes:
            return value
        if value.axes is None:
            return self.call(function, value, sorted(axes), keep)
        of_held = sorted(value.axes[axis] for axis in axes)
        if function is torch.mean and len(shape) == 4 and of_held == [2, 3]:
            reduced = self.on_held(F.adaptive_avg_pool2d, value, 1)
        else:
            reduced = self.on_held(function, value, of_held, True)
        return reduced if keep else self.reshaped(reduced, tuple(n for a, n in enumerate(shape) if a not in axes))

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """shape: with the batch axis, of one example."""
        if shape[:1] != (1,):
            raise self.refused(f" that mixes the examples of a batch: of {value.shape} to {shape}")
        return value if shape == value.shape else value.viewed(View(shape=shape[1:], name=self.name))

    def permuted(self, value: Value, axes: tuple[int, ...]) -> Value:
        if axes[:1] != (0,):
            raise self.refused(f" that moves the batch axis, by {axes}")
        return value if axes == tuple(range(len(axes))) else value.viewed(View(axes=axes, name=self.name))

    def cut(self, value: Value, places: Mapping[int, range]) -> Value:
        """The entries of these axes at these places."""
        for axis, chosen in places.items():
            if chosen == range(value.shape[axis]):
                continue
            if axis == 0:
                raise self.refused(" along the batch axis")
            if chosen.step < 0:
                value = self.call(torch.index_select, value, axis, np.array(chosen))
            else:
                kept = slice(chosen.start, chosen.stop, chosen.step)
                value = self.call(operator.getitem, value, (*[slice(None)] * axis, kept))
        return value

    def linear(self, value: Value, weight: Known, bias: Known | None = None) -> Value:
        """weight: (n_out, n_in); value: (1, n_in), or anything that ends with n_in."""
        if len(value.shape) != 2:
            return self.call(F.linear, value, weight, bias)
        order = value.order[0]
        of_held = np.empty_like(weight)
        of_held[:, order] = weight
        flat = _held(value)
        if flat.held.ndim != 2:
            flat = self._call(torch.flatten, [flat, 1], {}, value.views[-1].name)
        return self.call(F.linear, flat, of_held, bias)

    def as_held(self, value: Value, known: Known) -> Known:
        """A known value that is set against each entry of `value`, in the order of its `held`."""
        if not value.views:
            return known
        spread = np.empty(value.held.numel(), known.dtype)
        spread[value.order.reshape(-1)] = np.broadcast_to(known, value.shape).reshape(-1)
        return spread.reshape(tuple(value.held.shape))

    def settled(self, value: Value) -> Value:
        """The value as a node of the graph."""
        if not value.views:
            return value
        shape, name = value.shape, value.views[-1].name
        if (value.order.reshape(-1) == np.arange(value.held.numel())).all():
            if shape == tuple(value.held.shape):
                return _held(value)
            if len(shape) == 2:
                return self._call(torch.flatten, [_held(value), 1], {}, name)
            return self._call(torch.reshape, [_held(value), (-1, *shape[1:])], {}, name)
        settled = _held(value)
        for view in value.views:
            function, argument = view.call
            settled = self._call(function, [settled, argument], {}, view.name)
        return settled

    def module(self, output: Value, kind: str) -> Traced:
        """What leads to the output; kind: what errors call the module."""
        self.graph.output(self.settled(output).node)
        self.graph.eliminate_dead_code()
        return Traced(self.tensors, self.graph, kind)

    def _settled(self, argument: Any) -> Any:
        return self.settled(argument) if isinstance(argument, Value) else argument

    def _call(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], name: str = "") -> Value:
        try:
            with torch.no_grad():
                held = function(*_each(args, _example), **_each(kwargs, _example))
        except Exception as error:  # torch raises anything
            raise self.refused(f" ({first_line(error)})") from error
        if not isinstance(held, Tensor) or held.shape[:1] != (1,):
            raise self.refused(" that mixes the examples of a batch")
        node = self.graph.call_function(function, tuple(_each(args, self._argument)), _each(kwargs, self._argument))
        node.meta[NAME] = name or self.name
        return self._kept(node, held)

    def _kept(self, node: fx.Node, held: Tensor) -> Value:
        self._held[node] = held
        return Value(node, held)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Value):
            return value.node
        if not isinstance(value, np.ndarray):
            return value
        key = f"tensor{len(self.tensors._buffers)}"
        self.tensors.register_buffer(key, _example(value))
        return self.graph.get_attr(key)


def expect_examples_apart(module: nn.Module, shape: Shape) -> None:
    """Raise ExportError if an example gives another output among others than alone."""
    examples = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = module(examples)
        alone = torch.cat([module(example[None]) for example in examples])
    if together.shape != alone.shape or not (together - alone).abs().max() <= _RTOL * alone.abs().max():
        raise ExportError(f"{type(module).__name__}: it gives an example another output among others than alone")


def _each(argument: Any, function: Callable[[Any], Any]) -> Any:
    """The function of each argument of a call, those in lists, tuples and by name included."""
    match argument:
        case list() | tuple():
            return type(argument)(_each(a, function) for a in argument)
        case dict():
            return {key: _each(a, function) for key, a in argument.items()}
    return function(argument)


def _held(argument: Any) -> Any:
    return replace(argument, views=()) if isinstance(argument, Value) else argument


def _example(argument: Any) -> Any:
    if isinstance(argument, Value):
        return argument.held
    return torch.from_numpy(np.array(argument, order="C")) if isinstance(argument, np.ndarray) else argument
