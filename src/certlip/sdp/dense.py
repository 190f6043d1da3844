"""The matrix inequality written out, and its multipliers in one vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from certlip.network import Array
from certlip.proof.lmi import Lmi, Multipliers


def dense_matrix(lmi: Lmi, rho: float, multipliers: Sequence[Array]) -> Array:
    """P(rho, T) as a dense symmetric (order, order) matrix."""
    p = np.zeros((lmi.order, lmi.order))
    diagonal, below = lmi.blocks(rho, multipliers)
    parts = [slice(*ends) for ends in pairwise(lmi.starts)]
    for part, block in zip(parts, diagonal, strict=True):
        p[part, part] = block if block.ndim == 2 else np.diag(block)
    for (before, part), block in zip(pairwise(parts), below, strict=True):
        p[part, before] = block
        p[before, part] = block.T
    return p


def split(lmi: Lmi, multipliers: Array) -> Multipliers:
    """A vector of all multipliers cut into T_1..T_L."""
    return tuple(np.split(multipliers, np.cumsum(lmi.sizes[1:])[:-1])) if lmi.n_multipliers else ()
