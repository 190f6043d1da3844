"""Layers of volumes (channels, depth, rows, columns), written as layers of maps, exactly.

The slices of a volume stand one below the other in a map, with rows of zeros between them that serve as the padding of
both. There a convolution of the volume is one of the map: its kernel has the rows of its first slice, zeros down to the
next slice, the rows of its second one, and so on. Outputs between the slices are left out. With a stride of s slices,
every s of them stand side by side as channels, as the strides of a torus do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from certlip.network import Array, Conv, Gather, Layer, MaxPool, Reshape, Shape

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Windows:
    """stride, dilation: (slices, rows, columns); padding: zeros before and after each of these axes."""

    stride: Triple
    padding: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    dilation: Triple = (1, 1, 1)


def convolution(
    name: str, weight: Array, bias: Array, windows: Windows, groups: int, shape: Shape, output_shape: Shape
) -> list[Layer]:
    """weight: (c_out, c_in / groups, slices, rows, columns); shapes: (channels, slices, rows, columns)."""
    (every, stride, _), (apart, spread, _) = windows.stride, windows.dilation
    above, below = windows.padding[1]
    pitch = _up(shape[2] + max(above, below), stride)  # taps further down see zeros alone
    kernel = _kernel(weight, pitch, every, apart, spread)
    volume = _positions(shape, windows.padding[0], pitch, every, groups)
    last = (output_shape[1] - 1) * pitch + (output_shape[2] - 1) * stride  # where the last window begins, but `above`
    end = max(0, last - above + kernel.shape[2] - volume.shape[1])
    layer = Conv(
        name,
        kernel,
        bias,
        (stride, windows.stride[2]),
        (above, end, *windows.padding[2]),
        (1, windows.dilation[2]),
        groups,
    )
    map_shape = layer.output_shape(volume.shape)
    rows = np.arange(output_shape[1])[:, None] * (pitch // stride) + np.arange(output_shape[2])
    chosen = np.arange(float(math.prod(map_shape))).reshape(map_shape)[:, rows]
    return [Gather(f"{name} slices", volume), layer, Gather(f"{name} volume", chosen)]


def max_pool(name: str, windows: Sequence[Triple], ceil: bool, shape: Shape) -> list[Layer]:
    """Over rows and columns of each slice, then over slices; windows: kernel, stride and padding along each."""
    (kernel, stride, padding), (k_h, s_h, p_h), (k_w, s_w, p_w) = windows
    channels, n_slices, *map_shape = shape
    within = MaxPool(name, (k_h, k_w), (s_h, s_w), (p_h, p_w), ceil)
    rows, columns = within.output_shape((channels * n_slices, *map_shape))[1:]
    across = MaxPool(f"{name} slices", (kernel, 1), (stride, 1), (padding, 0), ceil)
    depth = across.output_shape((channels, n_slices, rows * columns))[1]
    return [
        Reshape(f"{name} as maps", (channels * n_slices, *map_shape)),
        within,
        Reshape(f"{name} as lines", (channels, n_slices, rows * columns)),
        across,
        Reshape(f"{name} volume", (channels, depth, rows, columns)),
    ]


def _kernel(weight: Array, pitch: int, every: int, apart: int, spread: int) -> Array:
    """(c_out, every * c_in / groups, rows, columns): the kernel for slices that stand `pitch` rows apart."""
    c_out, group_in, n_slices, n_rows, n_columns = weight.shape
    height = (n_slices - 1) * apart // every * pitch + (n_rows - 1) * spread + 1
    kernel = np.zeros((c_out, every, group_in, height, n_columns))
    for u in range(n_slices):
        down, phase = divmod(u * apart, every)
        first = down * pitch
        kernel[:, phase, :, first : first + (n_rows - 1) * spread + 1 : spread] = weight[:, :, u]
    return kernel.reshape(c_out, every * group_in, height, n_columns)


def _positions(shape: Shape, padding: tuple[int, int], pitch: int, every: int, groups: int) -> Array:
    """(channels * every, rows, columns) of a `Gather`: slices below each other, every so many of them side by side."""
    channels, n_slices, n_rows, n_columns = shape
    padded = _up(n_slices + sum(padding), every)
    index = np.full((channels, padded, pitch, n_columns), -1.0)
    own = np.arange(float(math.prod(shape))).reshape(shape)
    index[:, padding[0] : padding[0] + n_slices, :n_rows] = own
    by_phase = index.reshape(groups, channels // groups, padded // every, every, pitch, n_columns)
    together = by_phase.transpose(0, 3, 1, 2, 4, 5)
    return np.ascontiguousarray(together).reshape(channels * every, padded // every * pitch, n_columns)


def _up(n: int, multiple: int) -> int:
    """The next multiple."""
    return -(-n // multiple) * multiple
