"""The layers of a network for people: shapes, a certified constant of each, and all that no bound is known for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from certlip.base import progress
from certlip.base.errors import NotCertified, UnsupportedLayer
from certlip.network import JOINS, Layer, Network, Shape
from certlip.proof.norms import layer_constant
from certlip.sources import Model, network_of


@dataclass(frozen=True)
class Row:
    """inputs: shapes of what the layer takes; constant: None where it says nothing by itself, or there is none;
    obstacle: the sentence about a layer that has no bound, else empty."""

    name: str
    kind: str
    inputs: tuple[Shape, ...]
    output: Shape
    constant: float | None = None
    obstacle: str = ""


def rows_of(loaded: Network | Model) -> list[Row]:
    """The layers of the exported network, in order; where it cannot be exported, the steps of the module, with what
    stands in the way of each. Raises what `export_network` does, for all but a layer without a bound."""
    if isinstance(loaded, Model):
        steps = _steps(loaded)
        if any(row.obstacle for row in steps):
            return steps
    network, rows = network_of(loaded), []
    with progress.stage("layer constants", len(network.layers)) as advance:
        for row in _layers(network):
            rows.append(row)
            advance()
    return rows


def render(rows: list[Row]) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for column in ("layer", "kind", "input", "output", "constant"):
        table.add_column(column, overflow="fold")
    for row in rows:
        constant = "no bound" if row.obstacle else "-" if row.constant is None else f"{row.constant:.5g}"
        table.add_row(escape(row.name), row.kind, " + ".join(map(_by, row.inputs)), _by(row.output), constant)
    return table


def _layers(network: Network) -> Iterator[Row]:
    for layer, sources, shape in zip(network.layers, network.sources, network.shapes[1:], strict=True):
        inputs = tuple(network.shapes[s] for s in sources)
        yield Row(layer.name, type(layer).__name__, inputs, shape, _constant(layer, inputs[0]))


def _steps(model: Model) -> list[Row]:
    import torch

    from certlip.pytorch.export import layers_of
    from certlip.pytorch.graph import Node, walk
    from certlip.pytorch.plain import plain_copy

    rows: list[Row] = []

    def visit(node: Node) -> None:
        inputs, output = tuple(tuple(x.shape[1:]) for x in node.inputs), tuple(node.output.shape[1:])
        try:
            layers_of(node)
        except UnsupportedLayer as error:
            rows.append(Row(node.name, node.operation, inputs, output, obstacle=str(error)))
        else:
            rows.append(Row(node.name, node.operation, inputs, output))

    plain = plain_copy(model.module, model.input_shape)
    try:
        walk(plain, torch.zeros(2, *model.input_shape, dtype=torch.float64), visit)
    except UnsupportedLayer as error:
        name = str(error).partition(": no bound for ")[0]
        rows.append(Row(name, "", (), (), obstacle=str(error)))
    return rows


def _constant(layer: Layer, shape: Shape) -> float | None:
    """What a sum or a concatenation adds depends on what leads to it."""
    try:
        return None if isinstance(layer, JOINS) else layer_constant(layer, shape)
    except NotCertified:
        return None


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))
