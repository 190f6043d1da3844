"""Segments of a network: where they may be cut, their patches, and which patches are the same program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from certlip.base.errors import NoBound, UnsupportedLayer
from certlip.base.plugins import nearest
from certlip.network import (
    COUPLED,
    LINEAR,
    Activation,
    Along,
    Conv,
    Flatten,
    Gather,
    Layer,
    Network,
    Pair,
    Reshape,
    Shape,
)
from certlip.network.slopes import are_identity
from certlip.network.window import Window, grid_windows, reads
from certlip.partition.merges import RULES, Merge
from certlip.partition.plan import BlockPlan, SegmentPlan

LARGE_WINDOW = 4
"""Of average pooling that leaves few pixels: smaller ones shrink a map between convolutions."""

MAX_SPLIT = 10**11
"""Sum of cubed orders up to which patches are split by cover or place: about a minute of matrix factorisations."""


def find_cuts(network: Network, after: Sequence[str] | None) -> list[int]:
    """Layer indices where segments begin, the end included.

    after: names of the layers that end a segment; None cuts before a flattening, around max pooling, sorting and
    softmax, and before global or adaptive average pooling, whose few pixels no grid could cut into patches.
    """
    layers = network.layers
    if after is None:
        cuts = {i for i, layer in enumerate(layers) if isinstance(layer, Flatten)}
        cuts |= {i for i, (layer, shape) in enumerate(network.with_shapes) if _averages_away(layer, shape)}
        cuts |= {i + k for i, layer in enumerate(layers) if isinstance(layer, COUPLED) for k in (0, 1)}
    else:
        names = [layer.name for layer in layers]
        for name in after:
            if name not in names:
                raise NoBound(f"cuts: the network has no layer {name!r}{nearest(name, names)}")
        cuts = {names.index(name) + 1 for name in after}
    return sorted(cuts | {0, len(layers)})


def _averages_away(layer: Layer, shape: Shape) -> bool:
    """Whether a layer is average pooling by windows that tile the map: all of it, or `LARGE_WINDOW` pixels a side."""
    if not isinstance(layer, Conv) or layer.weight.shape[:2] != (layer.groups, 1) or any(layer.padding):
        return False
    kernel = layer.weight.shape[2:]
    tiles = (
        layer.stride == kernel
        and layer.dilation == (1, 1)
        and not any(n % k for n, k in zip(shape[1:], kernel, strict=True))
    )
    large = kernel == shape[1:] or min(kernel) >= LARGE_WINDOW
    alike = np.ptp(layer.weight, axis=(2, 3)).max() == 0
    return tiles and large and math.prod(kernel) > 1 and bool(alike)


def make_segment(
    network: Network, first: int, last: int, grid: Pair, merge: Merge = "sum", chain: bool = False
) -> SegmentPlan:
    """Layers [first, last) with the grid on its output map, patches with the same semidefinite program collected.

    Equal weights and geometry suffice where patches have no metrics. Metrics gain where patches with another cover of
    their input pixels are on their own, and a chain needs every patch on its own: either is done up to `MAX_SPLIT`.
    A grid finer than the map is cut down to it; a segment without a convolution, or with layers that move entries among
    its convolutions, is not cut. One of `COUPLED` on its own, and a segment where a semidefinite program cannot gain
    (fewer than two linear layers), are left to their layer constants; one among other layers raises UnsupportedLayer.
    """
    segment = network.segment(first, last)
    names = tuple(layer.name for layer in segment.layers)
    shape = segment.shapes[-1]
    moved = any(isinstance(layer, Along | Gather | Reshape) for layer in segment.layers)
    flat = len(shape) != 3 or moved or not any(isinstance(layer, Conv) for layer in segment.layers)
    fitting = (1, 1) if flat else (min(grid[0], shape[1]), min(grid[1], shape[2]))
    plan = SegmentPlan(first=first, last=last, layers=names, grid=fitting)
    if not gains(segment):
        return plan
    if fitting != grid and not flat:
        asked, taken = ("x".join(map(str, pair)) for pair in (grid, fitting))
        plan = plan.model_copy(
            update={"note": f"grid {asked} is finer than the output of {names[-1]}: {taken} is used"}
        )
    if plan.grid == (1, 1):
        block = BlockPlan(windows=(None,), fields=(None,), **orders_of(segment))
        return plan.model_copy(update={"blocks": (block,)})
    return plan.model_copy(update={"blocks": _programs(segment, fitting, merge, chain)})


def _programs(segment: Network, grid: Pair, merge: Merge, chain: bool) -> tuple[BlockPlan, ...]:
    """The distinct programs of a grid's patches.

    Rows and columns of a receptive field do not depend on each other, so each line of patches is followed through the
    layers once.
    """
    _, n_rows, n_columns = segment.shapes[-1]
    windows = grid_windows(n_rows, n_columns, grid)
    rows = [_Line.of(segment, 0, window[:2]) for window in windows[:: grid[1]]]
    columns = [_Line.of(segment, 1, window[2:]) for window in windows[: grid[1]]]
    fields = [Window(*row.field, *column.field) for row in rows for column in columns]
    keys: list[tuple] = [(row.geometry, column.geometry) for row in rows for column in columns]
    pairs = {(row.geometry, column.geometry): (row, column) for row in rows for column in columns}
    orders = {key: _orders(segment.layers, _shapes(segment, *pair)) for key, pair in pairs.items()}
    per_patch = [orders[key] for key in keys]
    finer: list[list[tuple]] = []
    if RULES[merge].has_metrics:
        counts = cover(fields, segment.input_shape)
        finer.append([(*key, counts[field.slices].tobytes()) for key, field in zip(keys, fields, strict=True)])
    if chain:
        finer.append(list(windows))
    for apart in finer:
        if sum(found["order"] ** 3 for found in dict(zip(apart, per_patch, strict=True)).values()) <= MAX_SPLIT:
            keys = apart
    classes: dict[tuple, list[int]] = {}
    for index, key in enumerate(keys):
        classes.setdefault(key, []).append(index)
    return tuple(
        BlockPlan.model_construct(
            windows=tuple(windows[i] for i in members),
            fields=tuple(fields[i] for i in members),
            **per_patch[members[0]],
        )
        for members in classes.values()
    )


class _Line(NamedTuple):
    """A row or column of patches followed back through a segment.

    sides: its extent in the segment's input and behind each layer; paddings: of each convolution, before and behind;
    field: what it reads of the input.
    """

    sides: tuple[int, ...]
    paddings: tuple[Pair, ...]
    field: Pair

    @classmethod
    def of(cls, segment: Network, axis: int, span: Pair) -> _Line:
        """Of the span [start, stop) of the segment's output along an axis; raises UnsupportedLayer (`reads`)."""
        sides, paddings = [span[1] - span[0]], []
        for layer, shape in zip(segment.layers[::-1], segment.shapes[-2::-1], strict=True):
            span, padding = reads(layer, axis, shape, span)
            sides.append(span[1] - span[0])
            if isinstance(layer, Conv):
                paddings.append(padding)
        return cls(tuple(sides[::-1]), tuple(paddings[::-1]), span)

    @property
    def geometry(self) -> tuple:
        """What two lines must share for their patches to be the same semidefinite program."""
        return self.sides[0], *self.paddings


def _shapes(segment: Network, row: _Line, column: _Line) -> list[Shape]:
    """Of the input of a patch's sub-network, and behind each layer."""
    sides = zip(segment.shapes, row.sides, column.sides, strict=True)
    return [(shape[0], n_rows, n_columns) for shape, n_rows, n_columns in sides]


def cover(fields: Sequence[Window | None], shape: Shape) -> NDArray[np.int64]:
    """How many patches read each input pixel, (rows, columns); shape: of the segment's input map."""
    counts = np.zeros(shape[1:], dtype=np.int64)
    for field in fields:
        counts[field.slices if field else ...] += 1
    return counts


def orders_of(network: Network) -> dict[str, Any]:
    """The orders of a `BlockPlan`: of the input and every neuron that feeds a later linear layer.

    The solver replaces a wide first matrix and a tall last one by triangles where those have fewer entries.
    """
    return _orders(network.layers, network.shapes)


def _orders(layers: Sequence[Layer], shapes: Sequence[Shape]) -> dict[str, Any]:
    *hidden, n_out = _sizes(layers, shapes)
    sizes = hidden or [0]
    linear = [pair for pair in zip(layers, shapes[1:], strict=False) if isinstance(pair[0], LINEAR)]
    solved = [_reduced(sizes[0], sizes[1], *linear[0]), *sizes[1:]] if len(sizes) > 1 else sizes
    n_seen = _reduced(n_out, solved[-1], *linear[-1]) if linear else min(solved[-1], n_out)
    return {"order": sum(sizes), "solved_sizes": (*solved, n_seen)}


def _reduced(n: int, beside: int, layer: Layer, shape: Shape) -> int:
    """Of n inputs or outputs of the network, beside a hidden layer, how many the solver sees; layer, shape: the linear
    one between, and of its output."""
    n_entries = layer.weight.size * math.prod(shape[1:]) if isinstance(layer, Conv) else n * beside
    return beside if beside < n and n_entries > beside * (beside + 1) // 2 else n


def _sizes(layers: Sequence[Layer], shapes: Sequence[Shape]) -> list[int]:
    """n_0, the hidden n_1..n_L of the network's matrix inequality and the outputs n_{L+1}; shapes: of the input and
    behind each layer."""
    sizes, pending = [], math.prod(shapes[0])
    for layer, shape in zip(layers, shapes, strict=False):
        if isinstance(layer, (*LINEAR, Gather)):
            if pending:
                sizes.append(pending)
            pending = 0
        elif isinstance(layer, Activation) and sizes and not are_identity(layer.slopes):
            pending = math.prod(shape)
        elif isinstance(layer, COUPLED):
            what = f"{type(layer).__name__}; cut the network around it, as `dcp` does"
            raise UnsupportedLayer(f"{layer.name}: no semidefinite bound for {what}")
    return [*sizes, math.prod(shapes[-1])]


def gains(segment: Network) -> bool:
    """Whether a semidefinite program can be sharper than layer constants."""
    return sum(isinstance(layer, LINEAR) for layer in segment.layers) >= 2
