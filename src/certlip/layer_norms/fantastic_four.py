"""Four unfoldings of the kernel (Singla & Feizi 2021, arXiv 1911.10258, theorem 2), independent of the image's size.

||conv|| <= sqrt(k_h k_w) min(||R||, ||S||, ||T||, ||U||), R: (c_out k_h, c_in k_w), S: (c_out k_w, c_in k_h),
T: (c_out, c_in k_h k_w), U: (c_out k_h k_w, c_in). Stride drops rows, dilation moves taps, zero padding restricts: none
raises the norm. Groups: the largest of them. Each norm by Gram iteration, hence certified.
"""

from __future__ import annotations

import numpy as np

from certlip.base.record import Kind
from certlip.base.rounding import multiply_up, sqrt_up
from certlip.layer_norms import LayerNormInfo
from certlip.network import Array, Conv, Shape
from certlip.proof.gram_iteration import Parts, largest_norm

INFO = LayerNormInfo("Fantastic Four", Kind.CERTIFIED, "Singla & Feizi 2021, arXiv 1911.10258")

_UNFOLDINGS = (((1, 3), (2, 4)), ((1, 4), (2, 3)), ((1,), (2, 3, 4)), ((1, 3, 4), (2,)))
"""Axes of (groups, c_out, c_in, k_h, k_w) that make rows, and those that make columns, of R, S, T and U."""


def norm(layer: Conv, shape: Shape) -> float:
    """The largest over groups of sqrt(k_h k_w) times the smallest of the four norms, rounded up."""
    c_out, c_in, k_h, k_w = layer.weight.shape
    groups = layer.weight.reshape(layer.groups, c_out // layer.groups, c_in, k_h, k_w)
    return max(_of_group(group[None]) for group in groups)


def _of_group(kernel: Array) -> float:
    smallest = min(largest_norm([Parts(_unfold(kernel, *axes))]) for axes in _UNFOLDINGS)
    return multiply_up([sqrt_up(float(kernel.shape[3] * kernel.shape[4])), smallest])


def _unfold(kernel: Array, rows: tuple[int, ...], columns: tuple[int, ...]) -> Array:
    n_rows = int(np.prod([kernel.shape[axis] for axis in rows]))
    return kernel.transpose(0, *rows, *columns).reshape(1, n_rows, -1)
