"""Patches of an output map, their receptive fields, and the sub-network that computes one from the other."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from certlip.base.errors import UnsupportedLayer
from certlip.network import Activation, Conv, Layer, Network, Pair, Shape


class Window(NamedTuple):
    """Rows [top, bottom) and columns [left, right) of a map, all channels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size(self) -> Pair:
        return self.bottom - self.top, self.right - self.left


def grid_windows(rows: int, columns: int, grid: Pair) -> list[Window]:
    """Cut a map into grid[0] x grid[1] windows whose sides differ by one pixel at the most, row by row."""
    row_ends, column_ends = (
        [n * k // parts for k in range(parts + 1)] for n, parts in zip((rows, columns), grid, strict=True)
    )
    return [
        Window(top, bottom, left, right) for top, bottom in pairwise(row_ends) for left, right in pairwise(column_ends)
    ]


def tiles(windows: list[Window], rows: int, columns: int) -> bool:
    """Whether the windows cover each pixel of the map exactly once."""
    if any(w.top < 0 or w.left < 0 or w.bottom > rows or w.right > columns for w in windows):
        return False
    count = np.zeros((rows, columns), dtype=np.int64)
    for window in windows:
        count[window.slices] += 1
    return bool((count == 1).all())


def restrict(network: Network, window: Window | None) -> tuple[Network, Window | None]:
    """The sub-network that computes one window of the network's output, and the input window it reads.

    Zero padding stays exact: where the receptive field leaves the map, the sub-network pads. Without a window the
    whole network is returned. Raises UnsupportedLayer for layers that do not act on patches.
    """
    if window is None:
        return network, None
    if not network.is_chain:
        raise UnsupportedLayer("the network is no chain of layers")
    layers: list[Layer] = []
    for layer, shape in zip(network.layers[::-1], network.shapes[-2::-1], strict=True):
        rows, above_below = reads(layer, 0, shape, window[:2])
        columns, beside = reads(layer, 1, shape, window[2:])
        window = Window(*rows, *columns)
        layers.append(replace(layer, padding=(*above_below, *beside)) if isinstance(layer, Conv) else layer)
    channels = network.input_shape[0]
    return Network(tuple(layers[::-1]), (channels, *window.size)), window


def reads(layer: Layer, axis: int, shape: Shape, span: Pair) -> tuple[Pair, Pair]:
    """Which rows (axis 0) or columns of its input a layer reads for the span [start, stop) of its output, and how much
    padding before and behind them; shape: of the input.

    Raises UnsupportedLayer for layers that do not act on patches, and where it reads nothing but padding.
    """
    match layer:
        case Activation():
            return span, (0, 0)
        case Conv():
            stride, before = layer.stride[axis], layer.padding[2 * axis]
            first = span[0] * stride - before
            last = (span[1] - 1) * stride - before + layer.kernel_extent[axis]
            low, high = max(first, 0), min(last, shape[1 + axis])
            if low >= high:
                said = "a patch of this grid reads nothing but padding; use a coarser grid"
                raise UnsupportedLayer(f"{layer.name}: {said}")
            return (low, high), (low - first, last - high)
    raise UnsupportedLayer(f"{layer.name}: a {type(layer).__name__} cannot be cut into patches")
