"""Segments of a network: where they may be cut, their patches, and which patches are the same program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from certlip.errors import NoBound, UnsupportedLayer
from certlip.network import LINEAR, Activation, Conv, Dense, Flatten, MaxPool, Network, Pair, Shape
from certlip.partition.plan import BlockPlan, Merge, SegmentPlan
from certlip.partition.window import Window, grid_windows, restrict
from certlip.plugins import nearest

MAX_SPLIT = 10**11
"""Sum of cubed orders up to which patches are split by their cover: about a minute of matrix factorisations."""


def find_cuts(network: Network, after: Sequence[str] | None) -> list[int]:
    """Layer indices where segments begin, the end included.

    after: names of the layers that end a segment; None cuts before the first flattening and around max pooling.
    """
    layers = network.layers
    if after is None:
        cuts = {i for i, layer in enumerate(layers) if isinstance(layer, Flatten)}
        cuts |= {i + k for i, layer in enumerate(layers) if isinstance(layer, MaxPool) for k in (0, 1)}
    else:
        names = [layer.name for layer in layers]
        for name in after:
            if name not in names:
                raise NoBound(f"cuts: the network has no layer {name!r}{nearest(name, names)}")
        cuts = {names.index(name) + 1 for name in after}
    return sorted(cuts | {0, len(layers)})


def make_segment(
    network: Network, first: int, last: int, grid: Pair, merge: Merge = "sum", chain: bool = False
) -> SegmentPlan:
    """Layers [first, last) with the grid on its output map, patches with the same semidefinite program collected.

    Equal weights and geometry suffice for ``sum`` and ``cover``. The other merges gain where patches with another cover
    of their input pixels are on their own, which is done up to `MAX_SPLIT`; with `chain` every patch has to be, since
    what follows tells all outputs apart.
    A segment without a convolution is not cut. Max pooling on its own, and a segment where a semidefinite program
    cannot gain (fewer than two linear layers), are left to their layer constants; max pooling among other layers
    raises UnsupportedLayer.
    """
    segment = network.segment(first, last)
    names = tuple(layer.name for layer in segment.layers)
    shape = segment.shapes[-1]
    flat = len(shape) == 1 or not any(isinstance(layer, Conv) for layer in segment.layers)
    plan = SegmentPlan(first=first, last=last, layers=names, grid=(1, 1) if flat else grid)
    if not _gains(segment):
        return plan
    if plan.grid == (1, 1):
        block = BlockPlan(windows=(None,), fields=(None,), order=lmi_order(segment))
        return plan.model_copy(update={"blocks": (block,)})
    if grid[0] > shape[1] or grid[1] > shape[2]:
        raise NoBound(f"grid {grid[0]}x{grid[1]} is finer than the {shape[1]}x{shape[2]} output of {names[-1]}")
    patches = [(window, *restrict(segment, window)) for window in grid_windows(shape[1], shape[2], grid)]
    counts = cover([field for _, _, field in patches], segment.input_shape)
    keys: list[tuple] = [geometry(block) for _, block, _ in patches]
    orders = {key: lmi_order(block) for key, (_, block, _) in zip(keys, patches, strict=True)}
    if merge in ("weighted", "folded"):
        apart = [
            (*key, window if chain else counts[cast(Window, field).slices].tobytes())
            for key, (window, _, field) in zip(keys, patches, strict=True)
        ]
        orders |= {split: orders[key] for split, key in zip(apart, keys, strict=True)}
        if chain or sum(orders[key] ** 3 for key in set(apart)) <= MAX_SPLIT:
            keys = apart
    classes: dict[tuple, list[tuple[Window, Window]]] = {}
    for key, (window, _, field) in zip(keys, patches, strict=True):
        classes.setdefault(key, []).append((window, cast(Window, field)))
    blocks = tuple(
        BlockPlan(windows=tuple(w for w, _ in pairs), fields=tuple(f for _, f in pairs), order=orders[key])
        for key, pairs in classes.items()
    )
    return plan.model_copy(update={"blocks": blocks})


def cover(fields: Sequence[Window | None], shape: Shape) -> NDArray[np.int64]:
    """How many patches read each input pixel, (rows, columns); shape: of the segment's input map."""
    counts = np.zeros(shape[1:], dtype=np.int64)
    for field in fields:
        counts[field.slices if field else ...] += 1
    return counts


def geometry(block: Network) -> tuple:
    """What two sub-networks of one segment must share to be the same semidefinite program."""
    return block.input_shape, tuple(layer.padding for layer in block.layers if isinstance(layer, Conv))


def lmi_order(network: Network) -> int:
    """Order of the network's matrix inequality: its input and every neuron that feeds a later linear layer."""
    order, pending = 0, math.prod(network.input_shape)
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, LINEAR):
            order += pending
            pending = 0
        elif isinstance(layer, Activation) and order and layer.slopes != (1.0, 1.0):
            pending = math.prod(shape)
        elif isinstance(layer, MaxPool):
            raise UnsupportedLayer(f"{layer.name}: no semidefinite bound for MaxPool")
    return order


def _gains(segment: Network) -> bool:
    kinds = [type(layer) for layer in segment.layers if not isinstance(layer, Flatten)]
    linear = [i for i, kind in enumerate(kinds) if kind in (Conv, Dense)]
    return len(linear) >= 2
