"""The computation graph of a torch module, walked with one Lipschitz constant a node.

Virmaux & Scaman 2018 (arXiv 1805.10965), algorithm 1: L_k = sum_i max ||d_i g_k|| L_i over the inputs i of node k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn

from certlip.base.errors import UnsupportedLayer
from certlip.network import Layer, Shape
from certlip.pytorch import moving, ordering
from certlip.pytorch.layers import WHY_NOT, convert, refused
from certlip.pytorch.plain import plain_copy
from certlip.pytorch.tracing import METADATA, module_of, operation_of, qualified_name, run_node, trace


@dataclass(frozen=True, eq=False)
class Node:
    """One step of a forward pass, as a function of those of its inputs that depend on the network's input.

    name: qualified, as in error messages; operation: kind of module, or name of the function or method; sources: of
    the inputs, 0 for the network's input and k for the k-th node; inputs, output: example values, with a batch axis;
    call: the function of such inputs; repeated: whether an input stands in the call more than once.
    """

    name: str
    operation: str
    sources: tuple[int, ...]
    inputs: tuple[Tensor, ...]
    output: Tensor
    call: Callable[..., Tensor]
    repeated: bool
    _module: Callable[[], nn.Module]

    def layers(self) -> list[Layer]:
        """The step as layers of a `Network`; raises UnsupportedLayer where there are none."""
        if len(self.inputs) != 1:
            raise self.refused(WHY_NOT.get(self.operation, ""))
        return convert(self.name, self._module(), tuple(self.inputs[0].shape[1:]), tuple(self.output.shape[1:]))

    def refused(self, why: str = "") -> UnsupportedLayer:
        return refused(self.name, self.operation + why)


def walk(module: nn.Module, example: Tensor, visit: Callable[[Node], object]) -> tuple[int, Tensor]:
    """Call `visit` with each node whose value depends on the input, in order, as soon as it has run.

    module: as `plain_copy` gives it; example: of its inputs, which the module may change in place. Returns the output's
    position as in `Node.sources`, and its value.
    Raises UnsupportedLayer naming what cannot be traced, or what `visit` refuses.
    """
    traced = trace(module, example)
    interpreter = fx.Interpreter(traced)
    interpreter.args_iter = iter([example])
    positions: dict[fx.Node, int] = {}
    parted: dict[fx.Node, fx.Node] = {}
    moved: dict[fx.Node, fx.Node] = {}
    n_visited = 0
    for node in traced.graph.nodes:
        sources = [n for n in node.all_input_nodes if n in positions]
        if node.op == "output":
            break
        shared = [interpreter.env[n] for n in sources if len(n.users) > 1]
        versions = [_version(v) for v in shared]
        with torch.no_grad():
            value = interpreter.env[node] = run_node(interpreter, node)
        if versions != [_version(v) for v in shared]:
            raise refused(qualified_name(node), f"{operation_of(node)} in place of what others use")
        if node.op == "placeholder" and not positions:
            positions[node] = 0
        elif len(sources) == 1 and isinstance(value, tuple | list) and operation_of(node) in _SEVERAL:
            positions[node], parted[node] = positions[sources[0]], parted.get(sources[0], sources[0])
        elif sources and not isinstance(value, METADATA):
            pair = _parts_of_one(sources, moved) if operation_of(node) in ordering.PAIRS else {}
            visit(_step(node, interpreter, sources, positions, {**parted, **pair}))
            n_visited += 1
            positions[node] = n_visited
            if operation_of(node) in moving.OPERATIONS and len(sources) == 1 and not _ordered(node, parted):
                moved[node] = parted.get(sources[0], sources[0])
    if not sources or node.args != (sources[0],) or sources[0] in parted:
        raise refused("output", "anything but one tensor that depends on the input")
    return positions[sources[0]], interpreter.env[sources[0]]


def lipschitz(module: nn.Module, input_shape: Shape, constants: Callable[[Node], Sequence[float]], seed: int) -> float:
    """L of the output, with `constants` of each node, one for each of its inputs; infinite where it overflows.

    seed: of an example input. Raises what `plain_copy` and `walk` raise, and UnsupportedLayer for a module that is more
    than its trace.
    """
    reached = [Fraction(1)]  # exact: products along the way may overflow or underflow

    def visit(node: Node) -> None:
        terms = zip(constants(node), node.sources, strict=True)
        reached.append(sum((Fraction(c) * reached[s] for c, s in terms), Fraction()))

    plain = plain_copy(module, input_shape)
    example = torch.randn(1, *input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    output, value = walk(plain, example.clone(), visit)
    with torch.no_grad():
        expect_same(plain, plain(example), value)
    exact = reached[output]
    try:
        return float(exact)
    except OverflowError:
        return math.inf


def expect_same(module: nn.Module, outputs: Tensor, traced: Tensor) -> None:
    """Raise UnsupportedLayer unless a module and its trace gave the same numbers, those of an overflow included."""
    if outputs.shape != traced.shape or not torch.allclose(outputs, traced, rtol=0.0, atol=0.0, equal_nan=True):
        raise refused(type(module).__name__, "a forward that its trace does not repeat")


def _version(value: Any) -> int:
    """How often a tensor was changed in place."""
    return value._version if isinstance(value, Tensor) else 0


_SEVERAL = moving.OPERATIONS.union(ordering.TUPLES)
"""Operations that may give several tensors."""


def _ordered(node: fx.Node, parted: Mapping[fx.Node, fx.Node]) -> fx.Node | None:
    """The sorting or maximum along an axis of whose results a node takes one."""
    of = node.args[0] if node.args else None
    return of if isinstance(of, fx.Node) and of in parted and operation_of(of) in ordering.TUPLES else None


def _parts_of_one(sources: Sequence[fx.Node], moved: Mapping[fx.Node, fx.Node]) -> dict[fx.Node, fx.Node]:
    """Nodes that only move entries of one value, which each of two sources is or leads back to, and that value; nothing
    where there is no such value."""
    ways = []
    for node in sources:
        way = [node]
        while way[-1] in moved:
            way.append(moved[way[-1]])
        ways.append(way)
    common = next((node for node in ways[0] if all(node in way for way in ways[1:])), None)
    if len(sources) != 2 or common is None:
        return {}
    return {node: common for way in ways for node in way[: way.index(common)]}


def _step(
    node: fx.Node,
    interpreter: fx.Interpreter,
    sources: Sequence[fx.Node],
    positions: Mapping[fx.Node, int],
    parted: Mapping[fx.Node, fx.Node],
) -> Node:
    """sources: the nodes whose values it takes; positions: as of `Node.sources`; parted: of nodes that are parts of one
    value the node that has it."""
    whole = list(dict.fromkeys(parted.get(n, n) for n in sources))
    values = (*(interpreter.env[n] for n in whole), interpreter.env[node])
    if not all(isinstance(v, Tensor) for v in values):
        raise refused(qualified_name(node), f"{operation_of(node)}, which is more than one tensor")

    def values_with(inputs: Sequence[Tensor]) -> Callable[[fx.Node], Any]:
        """The value of each node that the step takes, for other inputs of the step."""
        replaced = dict(zip(whole, (v.clone() for v in inputs), strict=True))  # a step may work in place

        def value_of(n: fx.Node) -> Any:
            if n not in replaced and n in parted:
                replaced[n] = run(n, value_of)
            return replaced.get(n, interpreter.env.get(n))

        return value_of

    def run(of: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
        args, kwargs = fx.node.map_arg((of.args, of.kwargs), value_of)
        return getattr(interpreter, of.op)(of.target, args, kwargs)

    def call(*inputs: Tensor) -> Tensor:
        result: Tensor = run(node, values_with(inputs))
        return result

    uses: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), uses.append)
    operands = [n for n in uses if n in sources]
    ordered = _ordered(node, parted)
    name, operation = qualified_name(ordered or node), operation_of(ordered or node)

    def both(inputs: Tensor) -> Tensor:
        value_of = values_with([inputs])
        return torch.stack(torch.broadcast_tensors(*map(value_of, operands)), 1)

    def as_module() -> nn.Module:
        if ordered is not None:
            if node.args[1] not in (0, "values"):
                raise refused(name, f"{operation} where more than its values is used")
            return module_of(ordered, interpreter, whole[0])
        if operation in ordering.PAIRS and len(operands) == 2:
            return ordering.ExtremeOfParts(operation.startswith("max"), both, len(values[0]))
        if node.op != "call_module" and operation in moving.OPERATIONS:
            return moving.Moving(operation, call, len(values[0]))
        return module_of(node, interpreter, whole[0])

    repeated = len(whole) < len(sources) or any(uses.count(n) > 1 for n in sources)
    return Node(
        name,
        operation,
        tuple(positions[n] for n in whole),
        values[:-1],
        values[-1],
        call,
        repeated,
        as_module,
    )
