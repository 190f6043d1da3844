"""What the ascents share: rows of norm one, and layers in the form in which they multiply a few columns fastest."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from certlip.network.slopes import Slope, Slopes, along_channels, half_widths, middles

if TYPE_CHECKING:
    from torch import Tensor

RANK = 16
PLAIN_SWEEPS = 5
TINY = 1e-150
"""Below this a norm is no divisor: its square is no normal number."""
VANISHED = 1e-10
"""A neuron whose input is smaller than this times its layer's keeps its multiplier: the quotient is noise."""
DENSE = 0.3
"""A layer with a larger share of nonzeros is multiplied densely."""


def spheres(slopes: Slopes, like: Tensor, n_axes: int = 2) -> tuple[float | Tensor, float | Tensor, float | Tensor]:
    """m = (a + b) / 2 and h = (b - a) / 2 of each neuron, and the h of its multiplier, which is never zero."""
    a, b = slopes
    m, h, divisor = (as_rows(x, like, n_axes) for x in (middles(slopes), (b - a) / 2, half_widths(slopes)))
    return m, h, divisor


def as_rows(values: Slope, like: Tensor, n_axes: int = 2) -> float | Tensor:
    """A number, or one a neuron as a tensor that multiplies their rows, which have so many axes."""
    return like.new_tensor(along_channels(values, n_axes)) if isinstance(values, np.ndarray) else values


def unit(rows: Tensor) -> Tensor:
    """Rows (along the last axis) of norm one; those that vanish stay zero."""
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(TINY)


def thin(weight: Tensor) -> Tensor:
    """The fastest form for products with a few columns."""
    if int(weight.count_nonzero()) > DENSE * weight.numel():
        return weight.contiguous()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return weight.to_sparse_csr()
