"""Segments of a network: where they may be cut, their patches, and which patches are the same program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from certlip.base.errors import NoBound, UnsupportedLayer
from certlip.base.plugins import nearest
from certlip.network import LINEAR, Activation, Conv, Dense, Flatten, Layer, MaxPool, Network, Pair, Shape
from certlip.network.slopes import are_identity
from certlip.network.window import Window, grid_windows, restrict
from certlip.partition.plan import BlockPlan, Merge, SegmentPlan

LARGE_WINDOW = 4
"""Of average pooling that leaves few pixels: smaller ones shrink a map between convolutions."""

MAX_SPLIT = 10**11
"""Sum of cubed orders up to which patches are split by cover or place: about a minute of matrix factorisations."""


def find_cuts(network: Network, after: Sequence[str] | None) -> list[int]:
    """Layer indices where segments begin, the end included.

    after: names of the layers that end a segment; None cuts before a flattening, around max pooling and before global
    or adaptive average pooling, whose few pixels no grid could cut into patches.
    """
    layers = network.layers
    if after is None:
        cuts = {i for i, layer in enumerate(layers) if isinstance(layer, Flatten)}
        cuts |= {i for i, (layer, shape) in enumerate(network.with_shapes) if _averages_away(layer, shape)}
        cuts |= {i + k for i, layer in enumerate(layers) if isinstance(layer, MaxPool) for k in (0, 1)}
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

    Equal weights and geometry suffice for ``sum`` and ``cover``. The other merges gain where patches with another cover
    of their input pixels are on their own, and a chain needs every patch on its own: either is done up to `MAX_SPLIT`.
    A grid finer than the map is cut down to it, and a segment without a convolution is not cut. Max pooling on its own,
    and a segment where a semidefinite program cannot gain (fewer than two linear layers), are left to their layer
    constants; max pooling among other layers raises UnsupportedLayer.
    """
    segment = network.segment(first, last)
    names = tuple(layer.name for layer in segment.layers)
    shape = segment.shapes[-1]
    flat = len(shape) == 1 or not any(isinstance(layer, Conv) for layer in segment.layers)
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

    Rows and columns of a receptive field do not depend on each other, so only patches of the first row and column are
    followed through the layers, and one of each kind.
    """
    _, n_rows, n_columns = segment.shapes[-1]
    windows = grid_windows(n_rows, n_columns, grid)
    by_row, by_column = ([_restricted(segment, w) for w in line] for line in (windows[:: grid[1]], windows[: grid[1]]))
    fields = [Window(r.top, r.bottom, c.left, c.right) for _, r in by_row for _, c in by_column]
    keys: list[tuple] = [(geometry(r)[0], geometry(c)[1]) for r, _ in by_row for c, _ in by_column]
    kinds = {key: restrict(segment, window)[0] for key, window in dict(zip(keys, windows, strict=True)).items()}
    orders = {key: orders_of(block) for key, block in kinds.items()}
    per_patch = [orders[key] for key in keys]
    finer: list[list[tuple]] = []
    if merge in ("weighted", "folded"):
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
        BlockPlan(
            windows=tuple(windows[i] for i in members),
            fields=tuple(fields[i] for i in members),
            **per_patch[members[0]],
        )
        for members in classes.values()
    )


def _restricted(segment: Network, window: Window) -> tuple[Network, Window]:
    block, field = restrict(segment, window)
    return block, cast(Window, field)


def cover(fields: Sequence[Window | None], shape: Shape) -> NDArray[np.int64]:
    """How many patches read each input pixel, (rows, columns); shape: of the segment's input map."""
    counts = np.zeros(shape[1:], dtype=np.int64)
    for field in fields:
        counts[field.slices if field else ...] += 1
    return counts


def geometry(block: Network) -> tuple[tuple, tuple]:
    """What two sub-networks of one segment must share to be the same semidefinite program, along rows and columns."""
    paddings = [layer.padding for layer in block.layers if isinstance(layer, Conv)]
    rows, columns = block.input_shape[1:]
    return (rows, *(p[:2] for p in paddings)), (columns, *(p[2:] for p in paddings))


def orders_of(network: Network) -> dict[str, Any]:
    """The orders of a `BlockPlan`: of the input and every neuron that feeds a later linear layer.

    The solver reduces a wide first matrix to its rows and a tall last one to its columns.
    """
    *hidden, n_out = _sizes(network)
    sizes = hidden or [0]
    solved = [min(sizes[0], sizes[1]) if len(sizes) > 1 else sizes[0], *sizes[1:]]
    return {"order": sum(sizes), "solved_sizes": (*solved, min(solved[-1], n_out))}


def _sizes(network: Network) -> list[int]:
    """n_0, the hidden n_1..n_L of the network's matrix inequality and the outputs n_{L+1}."""
    sizes, pending = [], math.prod(network.input_shape)
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, LINEAR):
            if pending:
                sizes.append(pending)
            pending = 0
        elif isinstance(layer, Activation) and sizes and not are_identity(layer.slopes):
            pending = math.prod(shape)
        elif isinstance(layer, MaxPool):
            raise UnsupportedLayer(f"{layer.name}: no semidefinite bound for MaxPool")
    return [*sizes, math.prod(network.shapes[-1])]


def gains(segment: Network) -> bool:
    """Whether a semidefinite program can be sharper than layer constants."""
    kinds = [type(layer) for layer in segment.layers if not isinstance(layer, Flatten)]
    linear = [i for i, kind in enumerate(kinds) if kind in (Conv, Dense)]
    return len(linear) >= 2
